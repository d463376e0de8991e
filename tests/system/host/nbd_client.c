/*
 * Clients of an NBD server on a Unix socket.
 *   nbd_client SOCKET hostile            those that it must bear, one after the other; exits 1 when
 *                                        it is given what it should not get
 *   nbd_client SOCKET hold COUNT         opens COUNT connections, says "open", and keeps them until
 *                                        its stdin ends
 *   nbd_client SOCKET read OFFSET SIZE   prints these bytes of the disk; exits 1 when they are an
 *                                        error, which it says
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define OPTION_MAGIC  0x49484156454F5054ULL
#define REQUEST_MAGIC 0x25609513U
#define SIMPLE_MAGIC  0x67446698U

enum {
	OPT_EXPORT_NAME = 1,
	OPT_ABORT,
	OPT_LIST,
	OPT_STARTTLS = 5,
	OPT_INFO,
	OPT_GO,
	OPT_STRUCTURED,
	OPT_SET_CONTEXT = 10
};
enum { CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_ZERO, CMD_STATUS };

static const char *socket_path;

static void fail(const char *what)
{
	fprintf(stderr, "nbd_client: %s\n", what);
	exit(1);
}

/* --- bytes --- */

static int dial(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 60};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("cannot connect");
	/* A server that neither answers nor hangs up has failed. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* What cannot be sent any more is the server's right. */
static void put(int fd, const void *bytes, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t sent = send(fd, (const char *)bytes + done, size - done, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		done += (size_t)sent;
	}
}

/* Whether SIZE bytes came; false: the server has hung up. */
static bool get(int fd, void *bytes, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t got = recv(fd, (char *)bytes + done, size - done, 0);

		if (got < 0 && errno == EAGAIN)
			fail("the server neither answers nor hangs up");
		if (got <= 0)
			return false;
		done += (size_t)got;
	}
	return true;
}

static void put_option(int fd, uint32_t option, uint32_t length, const void *bytes, size_t size)
{
	struct {
		uint64_t magic;
		uint32_t option, length;
	} head = {htobe64(OPTION_MAGIC), htobe32(option), htobe32(length)};

	put(fd, &head, sizeof(head));
	put(fd, bytes, size);
}

/* A server that has just been brought to its end is started again, and then it answers. */
#define GREETINGS 20

/* Greets as a good client does. */
static int greet(uint32_t flags)
{
	char greeting[18] = "";
	int fd = dial();

	for (int tries = 1; !get(fd, greeting, sizeof(greeting)) && tries < GREETINGS; tries++) {
		close(fd);
		fd = dial();
	}
	if (memcmp(greeting, "NBDMAGICIHAVEOPT", 16) != 0)
		fail("that is no server");
	flags = htobe32(flags);
	put(fd, &flags, sizeof(flags));
	return fd;
}

/* The type of the next answer to an option, its bytes thrown away; 0: the server has hung up. */
static uint32_t option_answer(int fd)
{
	struct __attribute__((packed)) {
		uint64_t magic;
		uint32_t option, type, length;
	} head;
	char byte;

	if (!get(fd, &head, sizeof(head)))
		return 0;
	for (uint32_t i = 0; i < be32toh(head.length); i++)
		if (!get(fd, &byte, 1))
			return 0;
	return be32toh(head.type);
}

#define ANSWER_ACK   1U
#define ANSWER_ERROR (1U << 31)

/* Asks for an export by its name; the last answer. */
static uint32_t go(int fd, const char *name, uint32_t name_bytes)
{
	char bytes[5000];
	uint32_t length = htobe32(name_bytes), answer;

	memcpy(bytes, &length, 4);
	memcpy(bytes + 4, name, name_bytes);
	memset(bytes + 4 + name_bytes, 0, 2);
	put_option(fd, OPT_GO, name_bytes + 6, bytes, name_bytes + 6);
	do
		answer = option_answer(fd);
	while (answer != 0 && answer != ANSWER_ACK && !(answer & ANSWER_ERROR));
	return answer;
}

static int enter(void)
{
	int fd = greet(3);

	if (go(fd, "", 0) != ANSWER_ACK)
		fail("a good client is refused");
	return fd;
}

/* --- before the export is chosen --- */

static void send_garbage(void)
{
	static unsigned char bytes[1 << 16];

	for (unsigned round = 0; round < 50; round++) {
		int fd = round % 2 ? dial() : greet(3);

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (unsigned char)rand();
		put(fd, bytes, (size_t)rand() % sizeof(bytes));
		shutdown(fd, SHUT_WR);
		while (get(fd, bytes, 1))
			;
		close(fd);
	}
}

static void send_flags(void)
{
	static const uint32_t flags[] = {0, 1, 2, 4, 0xffffffff, 0x80000000};

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		int fd = greet(flags[i]);

		put_option(fd, OPT_ABORT, 0, NULL, 0);
		option_answer(fd);
		close(fd);
	}
}

/* Options that say they are longer, or other, than they are. */
static void send_lengths(void)
{
	static const uint32_t options[] = {
		OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO,
		OPT_STRUCTURED,	 9,	    10,	      11,	    0,	      0xffffffff};
	static const uint32_t lengths[] = {0,	  1,	   3,	       5,	  4097,
					   65537, 1 << 25, 0x7fffffff, 0xffffffff};
	static char bytes[65536];
	char byte;

	memset(bytes, 0xff, sizeof(bytes));
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
			int fd = greet(3);

			put_option(fd, options[i], lengths[k], bytes,
				   lengths[k] < sizeof(bytes) ? lengths[k] : sizeof(bytes));
			shutdown(fd, SHUT_WR);
			while (get(fd, &byte, 1))
				;
			close(fd);
		}
}

static void send_names(void)
{
	static const char *const names[] = {"../../etc/passwd",
					    "/etc/passwd",
					    "map/",
					    "map/..",
					    ".",
					    "MAP",
					    "%s%n",
					    "tree",
					    "ma"};
	static char name[4096];
	int fd;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		fd = greet(3);
		if (!(go(fd, names[i], (uint32_t)strlen(names[i])) & ANSWER_ERROR))
			fail("an export that is not there is opened");
		close(fd);
	}
	memset(name, 'x', sizeof(name));
	fd = greet(3);
	if (go(fd, name, sizeof(name)) == ANSWER_ACK)
		fail("an export with a long name is opened");
	close(fd);
	fd = greet(3);
	if (go(fd, "map\0x", 5) == ANSWER_ACK)
		fail("an export with a NUL in its name is opened");
	close(fd);
}

/* Many options, each of which is answered; the server may end that. */
static void send_many_options(void)
{
	int fd = greet(3);

	for (unsigned i = 0; i < 10000; i++) {
		put_option(fd, OPT_LIST, 0, NULL, 0);
		if (!option_answer(fd))
			break;
	}
	close(fd);
}

/* --- requests --- */

static void put_request(int fd, uint32_t magic, uint16_t flags, uint16_t command, uint64_t offset,
			uint32_t length)
{
	struct __attribute__((packed)) {
		uint32_t magic;
		uint16_t flags, command;
		uint64_t cookie, offset;
		uint32_t length;
	} request = {htobe32(magic),  htobe16(flags), htobe16(command), 7,
		     htobe64(offset), htobe32(length)};

	put(fd, &request, sizeof(request));
}

/* The error of the next answer; -1: the server has hung up. */
static int request_answer(int fd)
{
	struct __attribute__((packed)) {
		uint32_t magic, error;
		uint64_t cookie;
	} answer;

	if (!get(fd, &answer, sizeof(answer)))
		return -1;
	if (be32toh(answer.magic) != SIMPLE_MAGIC || answer.cookie != 7)
		fail("an answer that is none");
	return (int)be32toh(answer.error);
}

/* Each is an error, or the end of the connection, and never data. */
static void send_bad_requests(void)
{
	static const struct {
		uint16_t flags, command;
		uint64_t offset;
		uint32_t length;
	} requests[] = {
		{0, CMD_READ, 1ULL << 50, 512},
		{0, CMD_READ, UINT64_MAX, 1},
		{0, CMD_READ, UINT64_MAX - 511, 512},
		{0, CMD_READ, INT64_MAX, 4096},
		{0, CMD_READ, 0, 0xffffffff},
		{0, CMD_READ, 0, (64 << 20) + 1},
		{0xffff, CMD_READ, 0, 512},
		{0, CMD_TRIM, 0, 4096},
		{0, CMD_ZERO, 0, 4096},
		{0, CMD_STATUS, 0, 4096},
		{0, CMD_STATUS, UINT64_MAX, 0xffffffff},
		{0, CMD_CACHE, UINT64_MAX, 4096},
		{0, 8, 0, 0},
		{0, 0xffff, 0, 512},
	};

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		int fd = enter();

		put_request(fd, REQUEST_MAGIC, requests[i].flags, requests[i].command,
			    requests[i].offset, requests[i].length);
		if (request_answer(fd) == 0) {
			fprintf(stderr, "request %zu: ", i);
			fail("a bad request succeeds");
		}
		close(fd);
	}
}

/* What is where in 4 GiB at once, of a disk that is larger: some answer, or a closed connection. */
static void ask_for_extents(void)
{
	static const uint32_t lengths[] = {1, 0xffffffff, 0xfffffffe, 0xfffff000, 0x80000000};
	static const char context[] = "\0\0\0\0\0\0\0\1\0\0\0\17base:allocation";
	char head[20];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		int fd = greet(3);

		put_option(fd, OPT_STRUCTURED, 0, NULL, 0);
		option_answer(fd);
		put_option(fd, OPT_SET_CONTEXT, sizeof(context) - 1, context, sizeof(context) - 1);
		while (option_answer(fd) > ANSWER_ACK)
			;
		if (go(fd, "", 0) != ANSWER_ACK)
			fail("a client that asks for extents is refused");
		put_request(fd, REQUEST_MAGIC, 0, CMD_STATUS, i % 2, lengths[i]);
		get(fd, head, sizeof(head));
		close(fd);
	}
}

static void send_writes(void)
{
	static char bytes[4096];
	static const uint64_t offsets[] = {0, 1024, 4096, UINT64_MAX - 4095};

	memset(bytes, 'w', sizeof(bytes));
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		int fd = enter();

		put_request(fd, REQUEST_MAGIC, 0, CMD_WRITE, offsets[i], sizeof(bytes));
		put(fd, bytes, sizeof(bytes));
		if (request_answer(fd) == 0)
			fail("a write succeeds");
		close(fd);
	}
}

/* Requests that are cut off, and answers that nobody takes. */
static void leave_early(void)
{
	char byte;

	for (unsigned round = 0; round < 100; round++) {
		int fd = enter();

		switch (round % 4) {
		case 0:
			put(fd, "\x25\x60\x95\x13\0\0", 1 + round % 6);
			break;
		case 1:
			for (unsigned i = 0; i < 30; i++)
				put_request(fd, REQUEST_MAGIC, 0, CMD_READ, 0, 65536);
			break;
		case 2:
			put_request(fd, REQUEST_MAGIC, 0, CMD_WRITE, 0, 1 << 20);
			put(fd, "half", 4);
			break;
		default:
			put_request(fd, 0xdeadbeef, 0, CMD_READ, 0, 512);
			while (get(fd, &byte, 1))
				;
		}
		close(fd);
	}
}

/* --- all --- */

static void hold(unsigned count)
{
	struct rlimit limit;
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	for (unsigned i = 0; i < count; i++) {
		/* Where the server has had enough, the kernel lets nobody wait. */
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

		if (fd < 0)
			fail("cannot hold so many connections");
		connect(fd, (struct sockaddr *)&address, sizeof(address));
	}
	puts("open");
	fflush(stdout);
	while (getchar() != EOF)
		;
}

static void read_bytes(uint64_t offset, uint32_t size)
{
	char *bytes = malloc(size);
	int fd = enter(), error;

	put_request(fd, REQUEST_MAGIC, 0, CMD_READ, offset, size);
	error = request_answer(fd);
	if (error)
		fail(error < 0 ? "hung up" : strerror(error));
	if (!bytes || !get(fd, bytes, size))
		fail("cut off");
	fwrite(bytes, 1, size, stdout);
	free(bytes);
	close(fd);
}

static void be_hostile(void)
{
	srand(1);
	send_garbage();
	send_flags();
	send_lengths();
	send_names();
	send_many_options();
	send_bad_requests();
	ask_for_extents();
	send_writes();
	leave_early();
}

int main(int argc, char **argv)
{
	if (argc < 3)
		fail("which socket, and what?");
	socket_path = argv[1];
	if (strcmp(argv[2], "hostile") == 0)
		be_hostile();
	else if (argc == 4 && strcmp(argv[2], "hold") == 0)
		hold((unsigned)atoi(argv[3]));
	else if (argc == 5 && strcmp(argv[2], "read") == 0)
		read_bytes(strtoull(argv[3], NULL, 10), (uint32_t)strtoul(argv[4], NULL, 10));
	else
		fail("hostile, hold or read?");
	return 0;
}
