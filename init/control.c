/* control: the lines between PID 1 and the host (jobdisk/control.h), and the VM's uniqueness. */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init/init.h"

#define HOST_WAIT_MS 30000

/* An answer that took longer makes a clock that is late; so often it is asked for again. */
#define CLOCK_LATE_MS 250
#define CLOCK_TRIES   16

void control_send(const char *word, const char *argument)
{
	struct pollfd port = {.fd = guest.control_fd, .events = POLLOUT};
	char line[CONTROL_LINE_BYTES];

	if (guest.control_fd < 0)
		return;
	int length = snprintf(line, sizeof(line), "%s%s%s", word, *argument ? " " : "", argument);
	if (length >= (int)sizeof(line))
		length = sizeof(line) - 1;
	/* A message may quote the job's bytes: one message stays one line. */
	for (int i = 0; i < length; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[length++] = '\n';
	while (write(guest.control_fd, line, (size_t)length) < 0 &&
	       (errno == EAGAIN || errno == EINTR))
		if (poll(&port, 1, HOST_WAIT_MS) == 0)
			return;
}

int control_receive(char *line, size_t size, struct error *error)
{
	struct pollfd port = {.fd = guest.control_fd, .events = POLLIN};
	size_t length = 0;

	while (length == 0 || line[length - 1] != '\n') {
		if (length == size - 1)
			return error_set(error, "the host's line is too long");
		ssize_t got = read(guest.control_fd, line + length, 1);
		if (got == 1)
			length++;
		else if (got < 0 && errno != EAGAIN && errno != EINTR)
			return error_errno(error, "read from the host");
		else if (poll(&port, 1, HOST_WAIT_MS) == 0)
			return error_set(error, "the host said nothing");
	}
	line[length - 1] = '\0';
	return 0;
}

int work_while_talking(int (*work)(void))
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return errno;
	if (child == 0)
		_exit(work());
	struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN};
	while (ended.fd >= 0 && poll(&ended, 1, CONTROL_ALIVE_MS) == 0)
		control_send(CONTROL_ALIVE, "");
	close(ended.fd);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int hex_byte(const char *digits)
{
	char pair[3] = {digits[0], digits[1], '\0'};
	char *end;
	long value = strtol(pair, &end, 16);

	return end == pair + 2 ? (int)value : -1;
}

static int decode_seed(const char *digits, unsigned char *seed, struct error *error)
{
	if (strlen(digits) != 2 * CONTROL_SEED_BYTES)
		return error_set(error, "the host's seed has not %d bytes", CONTROL_SEED_BYTES);
	for (int i = 0; i < CONTROL_SEED_BYTES; i++) {
		int byte = hex_byte(digits + 2 * i);
		if (byte < 0)
			return error_set(error, "the host's seed is not hexadecimal");
		seed[i] = (unsigned char)byte;
	}
	return 0;
}

/* Mixes the seed in, counts it as entropy, and makes the generator use it now (random(4)). */
static int feed_random_generator(const unsigned char *seed, struct error *error)
{
	union {
		struct rand_pool_info info;
		char bytes[sizeof(struct rand_pool_info) + CONTROL_SEED_BYTES];
	} pool = {
		.info = {.entropy_count = CONTROL_SEED_BYTES * 8, .buf_size = CONTROL_SEED_BYTES}};

	memcpy(pool.info.buf, seed, CONTROL_SEED_BYTES);
	int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(error, "open /dev/urandom");
	int failed = ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG);
	if (failed)
		error_errno(error, "reseed /dev/urandom");
	close(fd);
	return failed ? -1 : 0;
}

/* WORD SECONDS NANOSECONDS, and what follows them. */
static int parse_stamp(const char *line, const char *word, struct timespec *now, char **rest)
{
	size_t length = strlen(word);

	if (strncmp(line, word, length) != 0 || line[length] != ' ')
		return -1;
	now->tv_sec = strtoll(line + length, rest, 10);
	if (**rest != ' ')
		return -1;
	now->tv_nsec = strtol(*rest, rest, 10);
	return 0;
}

/*
 * NOW is when the host answered what was asked at ASKED_MS. Where the answer took long to get
 * here, as among many VMs that start at once, the clock would be late: the host is asked again.
 */
static int set_clock(struct timespec *now, uint64_t asked_ms, struct error *error)
{
	char line[CONTROL_LINE_BYTES], *rest;

	for (int i = 0; i < CLOCK_TRIES && monotonic_ms() - asked_ms > CLOCK_LATE_MS; i++) {
		asked_ms = monotonic_ms();
		control_send(CONTROL_CLOCK, "");
		if (control_receive(line, sizeof(line), error))
			return -1;
		if (parse_stamp(line, CONTROL_TIME, now, &rest))
			return error_set(error, "the host's line is not '" CONTROL_TIME "'");
	}
	if (clock_settime(CLOCK_REALTIME, now))
		return error_errno(error, "set the clock");
	return 0;
}

/* WORD, the time and a seed, which the host said after ASKED_MS. */
static int take_hello(const char *line, const char *word, uint64_t asked_ms, struct error *error)
{
	unsigned char seed[CONTROL_SEED_BYTES];
	struct timespec now;
	char *digits;

	if (parse_stamp(line, word, &now, &digits) || *digits != ' ')
		return error_set(error, "the host's line is not '%s'", word);
	if (decode_seed(digits + 1, seed, error) || feed_random_generator(seed, error))
		return -1;
	return set_clock(&now, asked_ms, error);
}

/*
 * The host's line gives this VM a clock and random numbers that no other VM has. The kernel makes
 * its boot id when it is first read, which nothing may do before this.
 */
int make_unique(struct error *error)
{
	return take_hello(guest.hello, CONTROL_HELLO, guest.ready_ms, error);
}

int serve_control(struct error *error)
{
	char line[CONTROL_LINE_BYTES];

	if (control_receive(line, sizeof(line), error))
		return -1;
	return take_hello(line, CONTROL_RESUMED, monotonic_ms(), error);
}
