/*
 * Uses what a user land expects of its kernel beyond files and processes: each call once, with
 * an outcome. Names on stdout what does not work; exits with their number.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORD "spoken"

/* A no-op that is submitted comes back with its mark. */
static bool io_uring(void)
{
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
	size_t ring_bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);

	if (fd < 0 || !(params.features & IORING_FEAT_SINGLE_MMAP))
		return false;
	char *ring =
		mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING);
	struct io_uring_sqe *entry =
		mmap(NULL, sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
	if (ring == MAP_FAILED || entry == MAP_FAILED)
		return false;
	*entry = (struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = 4711};
	((unsigned *)(void *)(ring + params.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(void *)(ring + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return false;
	const struct io_uring_cqe *done = (void *)(ring + params.cq_off.cqes);
	return done->user_data == 4711 && done->res == 0;
}

static bool aio(void)
{
	char text[sizeof(WORD)] = "";
	int fd = open("aio", O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct iocb block = {.aio_lio_opcode = IOCB_CMD_PREAD,
			     .aio_fildes = (uint32_t)fd,
			     .aio_buf = (uintptr_t)text,
			     .aio_nbytes = sizeof(text)};
	struct iocb *blocks[] = {&block};
	struct io_event event = {0};
	aio_context_t context = 0;

	return fd >= 0 && write(fd, WORD, sizeof(WORD)) == sizeof(WORD) &&
	       syscall(SYS_io_setup, 1, &context) == 0 &&
	       syscall(SYS_io_submit, context, 1, blocks) == 1 &&
	       syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1 &&
	       event.res == sizeof(text) && strcmp(text, WORD) == 0;
}

static bool sysv_shared_memory(void)
{
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	char *first = shmat(id, NULL, 0), *second = shmat(id, NULL, 0);

	if (first == (void *)-1 || second == (void *)-1)
		return false;
	strcpy(first, WORD);
	return strcmp(second, WORD) == 0;
}

static bool sysv_semaphore(void)
{
	int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	struct sembuf up = {.sem_op = 3};

	return semop(id, &up, 1) == 0 && semctl(id, 0, GETVAL) == 3;
}

static bool sysv_messages(void)
{
	struct {
		long type;
		char text[sizeof(WORD)];
	} sent = {1, WORD}, received = {0};
	int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);

	return msgsnd(id, &sent, sizeof(sent.text), 0) == 0 &&
	       msgrcv(id, &received, sizeof(received.text), 0, 0) == sizeof(WORD) &&
	       strcmp(received.text, WORD) == 0;
}

static bool posix_queue(void)
{
	struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = sizeof(WORD)};
	mqd_t queue = mq_open("/calls", O_RDWR | O_CREAT, 0600, &attributes);
	char text[sizeof(WORD)] = "";

	return mq_send(queue, WORD, sizeof(WORD), 0) == 0 &&
	       access("/dev/mqueue/calls", F_OK) == 0 &&
	       mq_receive(queue, text, sizeof(text), NULL) == sizeof(WORD) &&
	       strcmp(text, WORD) == 0;
}

static bool posix_shared_memory(void)
{
	return ftruncate(shm_open("/calls", O_RDWR | O_CREAT, 0600), 4096) == 0 &&
	       access("/dev/shm/calls", F_OK) == 0;
}

static bool memory_file(void)
{
	return write(memfd_create("calls", MFD_CLOEXEC), WORD, sizeof(WORD)) == sizeof(WORD);
}

/* A child that forbids itself getppid(). */
static bool seccomp_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
		      !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) &&
		      syscall(SYS_getppid) == -1);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

/* An event loop that a timer, a signal and a counter wake. */
static bool events(void)
{
	struct itimerspec soon = {.it_value.tv_nsec = 1};
	struct epoll_event event = {.events = EPOLLIN};
	sigset_t usr1;
	int fds[3];

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	fds[0] = timerfd_create(CLOCK_MONOTONIC, 0);
	fds[1] = signalfd(-1, &usr1, 0);
	fds[2] = eventfd(1, 0);
	if (timerfd_settime(fds[0], 0, &soon, NULL) || kill(getpid(), SIGUSR1))
		return false;
	for (size_t i = 0; i < 3; i++) {
		int loop = epoll_create1(0);
		if (epoll_ctl(loop, EPOLL_CTL_ADD, fds[i], &event) ||
		    epoll_wait(loop, &event, 1, -1) != 1)
			return false;
	}
	return true;
}

static bool file_events(void)
{
	struct inotify_event event = {0};
	char room[sizeof(event) + 256];
	int fd = inotify_init1(0);

	if (inotify_add_watch(fd, ".", IN_CREATE) < 0 || close(creat("watched", 0600)) ||
	    read(fd, room, sizeof(room)) < (ssize_t)sizeof(event))
		return false;
	memcpy(&event, room, sizeof(event));
	return event.mask == IN_CREATE;
}

/* A second opener does not get the lock. */
static bool file_lock(void)
{
	int first = open("lock", O_RDWR | O_CREAT, 0600), second = open("lock", O_RDWR);

	return flock(first, LOCK_EX) == 0 && second >= 0 && flock(second, LOCK_EX | LOCK_NB) < 0;
}

static bool process_memory(void)
{
	char from[] = WORD, to[sizeof(from)] = "";
	struct iovec source = {from, sizeof(from)}, target = {to, sizeof(to)};

	return process_vm_readv(getpid(), &target, 1, &source, 1, 0) == sizeof(from) &&
	       strcmp(to, WORD) == 0;
}

static bool memory_barrier(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 &&
	       syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

static bool restartable_sequence(void)
{
	/* struct rseq's first version, at its alignment. */
	static struct {
		uint32_t cpu_id_start, cpu_id;
		uint64_t critical_section;
		uint32_t flags, padding[3];
	} area __attribute__((aligned(32))) = {.cpu_id = UINT32_MAX};

	return syscall(SYS_rseq, &area, sizeof(area), 0, 0x53053053) == 0 &&
	       *(volatile uint32_t *)&area.cpu_id != UINT32_MAX;
}

static bool posix_timer(void)
{
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	struct itimerspec left = {0}, hour = {.it_value.tv_sec = 3600};
	timer_t timer;

	return timer_create(CLOCK_MONOTONIC, &none, &timer) == 0 &&
	       timer_settime(timer, 0, &hour, NULL) == 0 && timer_gettime(timer, &left) == 0 &&
	       left.it_value.tv_sec > 3000;
}

static bool terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);

	return grantpt(master) == 0 && unlockpt(master) == 0 &&
	       isatty(open(ptsname(master), O_RDWR | O_NOCTTY));
}

static bool unix_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);

	return bind(server, (void *)&address, sizeof(address)) == 0 && listen(server, 1) == 0 &&
	       connect(client, (void *)&address, sizeof(address)) == 0;
}

static const struct {
	const char *name;
	bool (*works)(void);
} calls[] = {
	{"io_uring", io_uring},
	{"asynchronous I/O", aio},
	{"System V shared memory", sysv_shared_memory},
	{"System V semaphores", sysv_semaphore},
	{"System V messages", sysv_messages},
	{"POSIX message queues", posix_queue},
	{"POSIX shared memory", posix_shared_memory},
	{"memfd", memory_file},
	{"seccomp", seccomp_filter},
	{"epoll, timerfd, signalfd, eventfd", events},
	{"inotify", file_events},
	{"flock", file_lock},
	{"process_vm_readv", process_memory},
	{"membarrier", memory_barrier},
	{"rseq", restartable_sequence},
	{"POSIX timers", posix_timer},
	{"pseudoterminals", terminal},
	{"Unix sockets", unix_socket},
};

int main(void)
{
	int failed = 0;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!calls[i].works()) {
			failed++;
			printf("%s\n", calls[i].name);
		}
	return failed;
}
