#include "tests/hostile/measure.h"

#include <err.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

bool measure_is_sanitized(void)
{
#ifdef __SANITIZE_ADDRESS__
	return true;
#else
	return false;
#endif
}

/* A sanitizer makes everything a few times slower. */
#define CPU_FACTOR (measure_is_sanitized() ? 5U : 1U)

void measure_limit_cpu(unsigned cpu_seconds)
{
	const rlim_t seconds = cpu_seconds * CPU_FACTOR;
	struct rlimit limit = {seconds, seconds};

	if (setrlimit(RLIMIT_CPU, &limit) < 0)
		err(1, "limit processor time");
}

uint64_t usage_cpu_ms(const struct rusage *usage)
{
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000 +
	       (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1000;
}

static int scratch_file(void)
{
	int fd = memfd_create("output", MFD_CLOEXEC);

	if (fd < 0)
		err(1, "make a file in memory");
	return fd;
}

static void run_child(char *const argv[], unsigned cpu_seconds, int stdout_fd, int stderr_fd)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(stdout_fd, 1) < 0 || dup2(stderr_fd, 2) < 0)
		_exit(99);
	measure_limit_cpu(cpu_seconds);
	execv(argv[0], argv);
	_exit(99);
}

static size_t take_text(int fd, char *text, size_t size)
{
	ssize_t got = pread(fd, text, size - 1, 0);

	close(fd);
	if (got < 0)
		err(1, "read what a program said");
	text[got] = '\0';
	return (size_t)got;
}

void measure_run(char *const argv[], unsigned cpu_seconds, struct measured *measured)
{
	int stdout_fd = scratch_file(), stderr_fd = scratch_file();
	struct rusage usage;
	int status;
	pid_t child = fork();

	if (child == 0)
		run_child(argv, cpu_seconds, stdout_fd, stderr_fd);
	if (child < 0 || wait4(child, &status, 0, &usage) != child)
		err(1, "run %s", argv[0]);
	measured->exited = WIFEXITED(status);
	measured->code = measured->exited ? WEXITSTATUS(status) : WTERMSIG(status);
	measured->cpu_ms = usage_cpu_ms(&usage);
	measured->memory_kib = (uint64_t)usage.ru_maxrss;

	size_t half = sizeof(measured->text) / 2;
	size_t used = take_text(stderr_fd, measured->text, half);

	take_text(stdout_fd, measured->text + used, half);
}
