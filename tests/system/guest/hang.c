/* Takes the only processor for good, with a real-time class and its throttling off: PID 1 hangs. */
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	struct sched_param first = {.sched_priority = 99};
	int fd = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY);

	if (fd < 0 || write(fd, "-1", 2) != 2)
		return 1;
	/* musl's sched_setscheduler() is a stub. */
	if (syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &first))
		return 2;
	for (;;)
		;
}
