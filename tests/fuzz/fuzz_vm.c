/*
 * What a VM sends while it runs, from a guest or a QEMU that is hostile: on the control port, the
 * job's two streams, the console, QMP and QEMU's own output.
 *
 * An input is a sequence of messages: a byte that says on which, a length, and so many bytes. vm.c
 * is compiled in here, for its loop to run without a QEMU, and without killing anything.
 */
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

static int kill_nothing(pid_t pid, int signal)
{
	(void)pid, (void)signal;
	return 0;
}

#define kill kill_nothing
#include "host-tools/vmm/vm.c"
#undef kill

#include <fcntl.h>
#include <sys/socket.h>

#define CHANNELS 6

/* Both ends of what QEMU would have been given. */
struct channel {
	int ours, theirs;
};

static void open_channels(struct channel *channels)
{
	for (size_t i = 0; i < CHANNELS; i++) {
		int ends[2];

		FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				      ends) == 0);
		channels[i] = (struct channel){ends[0], ends[1]};
	}
}

static void on_stage(void *context, const char *stage)
{
	*(size_t *)context += strlen(stage);
}

static void start(struct vm *vm, const struct channel *channels)
{
	const struct vm_options *options = vm->options;

	init_outcome(vm->outcome);
	vm->signal_fd = -1;
	vm->start_ms = vm->last_word_ms = now_ms();
	/* No deadlines, and the end of the channels is the end. */
	vm->qemu_ended = true;
	vm->qemu = (struct qemu){
		.pid_fd = -1,
		.control_fd = channels[0].ours,
		.qmp_fd = channels[1].ours,
		.stdout_fd = channels[2].ours,
		.stderr_fd = channels[3].ours,
		.console_fd = channels[4].ours,
		.log_fd = channels[5].ours,
	};
	qmp_init(&vm->qmp, vm->qemu.qmp_fd);
	init_pump(&vm->out, vm->qemu.stdout_fd, options->stdout_fd,
		  options->manifest->stdout_max_bytes);
	init_pump(&vm->err, vm->qemu.stderr_fd, options->stderr_fd,
		  options->manifest->stderr_max_bytes);
}

static void drain(int fd)
{
	char bytes[4096];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

/* Sends a message, and lets the loop take it before the next one comes. */
static void send_message(struct vm *vm, const struct channel *channels, unsigned channel,
			 const void *bytes, size_t size)
{
	const int listening[CHANNELS] = {vm->qemu.control_fd, vm->qemu.qmp_fd,	   vm->out.in_fd,
					 vm->err.in_fd,	      vm->qemu.console_fd, vm->qemu.log_fd};
	int fd = channels[channel].theirs;

	if (listening[channel] < 0 || size == 0)
		return;
	FUZZ_CHECK(send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
	drain(fd);
	wait_for_events(vm);
	check_deadlines(vm);
}

static void send_all(struct vm *vm, const struct channel *channels, const uint8_t *bytes,
		     size_t size)
{
	while (size > 2) {
		size_t length = bytes[1] < size - 2 ? bytes[1] : size - 2;

		/* Repeated, a short input reaches what bounds long ones. */
		for (unsigned times = bytes[0] >= 0xf0 ? 300 : 1; times > 0; times--)
			send_message(vm, channels, bytes[0] % CHANNELS, bytes + 2, length);
		bytes += 2 + length;
		size -= 2 + length;
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	/* As vm_run has it. */
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static struct vm vm;
	static struct vm_outcome outcome;
	static struct manifest manifest;
	size_t stage_bytes = 0;
	struct channel channels[CHANNELS];
	const struct vm_options options = {
		.manifest = &manifest,
		.stdout_fd = -1,
		.stderr_fd = -1,
		.boot_timeout_ms = 60000,
		.heartbeat_timeout_ms = 60000,
		.on_stage = on_stage,
		.on_stage_context = &stage_bytes,
	};

	manifest = manifest_defaults();
	manifest.stdout_max_bytes = 4096;
	vm = (struct vm){.options = &options, .outcome = &outcome};
	open_channels(channels);
	start(&vm, channels);
	send_all(&vm, channels, bytes, size);
	for (size_t i = 0; i < CHANNELS; i++)
		close(channels[i].theirs);
	run_loop(&vm);
	FUZZ_CHECK(outcome.console.total_bytes <= 300 * size);
	finish(&vm);
	FUZZ_CHECK(outcome.clean || outcome.message[0]);
	return 0;
}
