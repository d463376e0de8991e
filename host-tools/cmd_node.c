/* jobvm node: a long-lived worker that runs the jobs of a spool directory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/node/slots.h"
#include "host-tools/node/status.h"
#include "host-tools/options.h"
#include "host-tools/request.h"

/* So many jobs in a row that jobvm itself could not run mean that the next ones fail as well. */
#define FAILURES_MAX 3
/* A job whose worker dies so often ends the node: it is not tried again before somebody looks. */
#define DEATHS_MAX   3

struct node {
	struct worker_options options;
	struct spool spool;
	struct spool_queue resumed, queue; /* what was cut off comes first */
	size_t next_resumed, next;
	struct slots slots;
	size_t slot_count, warm_count; /* jobs at once; workers that wait for a job */
	int signal_fd, inotify_fd;
	struct spool_queue cancels;
	bool rescans, has_cancels, aborts;
	unsigned failures;		    /* in a row */
	char died_name[SPOOL_NAME_MAX + 1]; /* the job whose worker died last, */
	unsigned deaths;		    /* and how often */
	struct node_status status;
};

/* --- the jobs --- */

/* The next job, claimed. 0; 1: there is none; -1 with ERROR set. */
static int next_job(struct node *node, char name[SPOOL_NAME_MAX + 1], struct error *error)
{
	if (node->next_resumed < node->resumed.count) {
		snprintf(name, SPOOL_NAME_MAX + 1, "%s",
			 node->resumed.jobs[node->next_resumed++].name);
		return 0;
	}
	for (;;) {
		if (node->next == node->queue.count) {
			if (!node->rescans)
				return 1;
			node->rescans = false;
			node->status.changed = true;
			node->next = 0;
			if (spool_scan(&node->spool, &node->queue, error))
				return -1;
			if (node->queue.count == 0)
				return 1;
		}
		const struct spool_job *job = &node->queue.jobs[node->next++];
		int gone = spool_claim(&node->spool, job, error);
		if (gone <= 0) {
			snprintf(name, SPOOL_NAME_MAX + 1, "%s", job->name);
			return gone;
		}
	}
}

/* It is tried again, before all others. */
static int put_back(struct node *node, const char *name, struct error *error)
{
	struct spool_job job = {.file = ""};

	snprintf(job.name, sizeof(job.name), "%s", name);
	return spool_queue_add(&node->resumed, &job, error);
}

/* --- the workers --- */

/* For a job: a worker that waits, or the place for a new one. */
static struct slot *find_worker(const struct node *node)
{
	static const enum slot_state wanted[] = {SLOT_WAITS, SLOT_EMPTY, SLOT_STARTS};
	struct slot *slot = NULL;

	for (size_t i = 0; !slot && i < sizeof(wanted) / sizeof(wanted[0]); i++)
		slot = slots_find(&node->slots, wanted[i]);
	return slot;
}

static int start_jobs(struct node *node, struct error *error)
{
	char name[SPOOL_NAME_MAX + 1];
	struct slot *slot;

	while (!node->status.drains && slots_in(&node->slots, SLOT_RUNS) < node->slot_count &&
	       (slot = find_worker(node))) {
		int none = next_job(node, name, error);
		if (none)
			return none < 0 ? -1 : 0;
		if (slot->state == SLOT_EMPTY && slot_start(&node->slots, slot, false, error))
			return -1;
		slot_give(slot, name);
		node->status.changed = true;
	}
	return 0;
}

static size_t count_waiting(const struct node *node)
{
	return node->queue.count - node->next + node->resumed.count - node->next_resumed;
}

/* One that has not rehearsed, because jobs waited then, gives its place to one that does. */
static void renew_warm(const struct node *node)
{
	for (size_t i = 0; i < node->slots.count; i++) {
		struct slot *slot = &node->slots.items[i];
		if (slot->state != SLOT_WAITS || slot->rehearses)
			continue;
		slot_dismiss(slot);
		return;
	}
}

/*
 * Keeps as many workers ready as were asked for. A rehearsal takes as much of a processor as a
 * small job: while jobs wait, they come first.
 */
static int keep_warm(struct node *node, struct error *error)
{
	const struct slots *slots = &node->slots;
	bool is_idle = !node->rescans && count_waiting(node) == 0;

	if (node->status.drains)
		return 0;
	while (slots_in(slots, SLOT_STARTS) + slots_in(slots, SLOT_WAITS) < node->warm_count) {
		struct slot *slot = slots_find(slots, SLOT_EMPTY);
		if (!slot)
			return 0;
		if (slot_start(slots, slot, is_idle, error))
			return -1;
		node->status.changed = true;
	}
	if (is_idle && !node->options.reuses && slots_in(slots, SLOT_STARTS) == 0)
		renew_warm(node);
	return 0;
}

/* jobvm itself failed with a job: the host may be what is wrong. */
static int on_failure(struct node *node, struct error *error)
{
	node->status.failed++;
	if (++node->failures < FAILURES_MAX)
		return 0;
	return error_set(error,
			 "%u jobs in a row could not be run; their results say why, and the others "
			 "wait",
			 node->failures);
}

static int on_word(struct node *node, struct slot *slot, int word, struct error *error)
{
	if (word == WORKER_BEGINS) {
		slot->has_begun = true;
		return 0;
	}
	node->status.changed = true;
	if (word == WORKER_READY) {
		if (slot->state == SLOT_STARTS)
			slot->state = SLOT_WAITS;
		return 0;
	}
	slot->state = SLOT_WAITS;
	if (!node->options.reuses || node->status.drains)
		slot_dismiss(slot);
	/* Whoever has waited for its name. */
	node->rescans = node->rescans || node->queue.held > 0;
	switch (word) {
	case WORKER_DONE:
		node->status.done++;
		node->failures = 0;
		return 0;
	case WORKER_REFUSED:
		node->status.refused++;
		return 0;
	case WORKER_SUSPENDED:
		/* One that somebody else has told to. */
		node->status.suspended++;
		return node->status.drains ? 0 : put_back(node, slot->name, error);
	case WORKER_AGAIN:
		return put_back(node, slot->name, error);
	default:
		return on_failure(node, error);
	}
}

/* A worker that ends with its job was killed, or is broken. */
static int on_death(struct node *node, const char *name, struct error *error)
{
	bool again = strcmp(node->died_name, name) == 0;

	/* One that was told to end, before there was a VM. */
	if (node->status.drains)
		return 0;
	snprintf(node->died_name, sizeof(node->died_name), "%s", name);
	node->deaths = again ? node->deaths + 1 : 1;
	message_warning("%s: its worker died", name);
	if (node->deaths == DEATHS_MAX)
		return error_set(error, "%s: its worker died %d times", name, DEATHS_MAX);
	return put_back(node, name, error);
}

static int serve_slot(struct node *node, struct slot *slot, struct error *error)
{
	enum slot_state before = slot->state;
	int word = slot_listen(slot);

	if (word == 0)
		return 0;
	if (word > 0)
		return on_word(node, slot, word, error);
	node->status.changed = true;
	if (before == SLOT_RUNS)
		return on_death(node, slot->name, error);
	/* Without an end, as many would be started. */
	return before == SLOT_STARTS && !node->status.drains ? on_failure(node, error) : 0;
}

/* --- cancelling --- */

static struct slot *find_running(const struct node *node, const char *name)
{
	for (size_t i = 0; i < node->slots.count; i++) {
		struct slot *slot = &node->slots.items[i];
		if (slot->state == SLOT_RUNS && slot->has_begun && strcmp(slot->name, name) == 0)
			return slot;
	}
	return NULL;
}

/*
 * A job that waits to go on is cancelled when it does. Before its worker has begun, a signal could
 * be lost, or be taken for one that was meant for the job before it.
 */
static int serve_cancels(struct node *node, struct error *error)
{
	if (!node->has_cancels)
		return 0;
	if (spool_cancels(&node->spool, &node->cancels, error))
		return -1;
	node->has_cancels = node->cancels.count > 0;
	for (size_t i = 0; i < node->cancels.count; i++) {
		const char *name = node->cancels.jobs[i].name;
		const struct slot *slot = find_running(node, name);
		if (!slot)
			continue;
		kill(slot->pid, SIGINT);
		spool_end_cancel(&node->spool, name);
	}
	return 0;
}

/* --- the end --- */

static void drain(struct node *node)
{
	node->status.drains = node->status.changed = true;
	for (size_t i = 0; i < node->slots.count; i++) {
		struct slot *slot = &node->slots.items[i];
		if (slot->state == SLOT_RUNS || slot->state == SLOT_STARTS ||
		    slot->state == SLOT_WAITS)
			kill(slot->pid, SIGTERM);
	}
}

static void serve_signal(struct node *node)
{
	struct signalfd_siginfo info;

	if (read(node->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (node->status.drains) {
		node->aborts = true;
		return;
	}
	message_note("suspending what runs; a second signal ends it at once");
	drain(node);
}

static void serve_arrivals(struct node *node)
{
	char events[4096] __attribute__((aligned(8)));
	ssize_t length;

	while ((length = read(node->inotify_fd, events, sizeof(events))) > 0) {
		const struct inotify_event *event;
		for (char *at = events; at < events + length; at += sizeof(*event) + event->len) {
			event = (const void *)at;
			if (event->len > 0 && spool_is_cancel(event->name))
				node->has_cancels = true;
		}
	}
	node->rescans = true;
}

/* --- the loop --- */

static bool is_over(const struct node *node)
{
	if (!node->status.drains)
		return false;
	return node->aborts || (slots_in(&node->slots, SLOT_EMPTY) == node->slots.count);
}

static int serve(struct node *node, struct error *error)
{
	struct pollfd sources[SLOTS_MAX + 2] = {
		{.fd = node->signal_fd, .events = POLLIN},
		{.fd = node->inotify_fd, .events = POLLIN},
	};
	const struct slots *slots = &node->slots;

	for (size_t i = 0; i < slots->count; i++)
		sources[i + 2] = (struct pollfd){
			.fd = slots->items[i].state == SLOT_EMPTY ? -1 : slots->items[i].socket_fd,
			.events = POLLIN};
	if (poll(sources, slots->count + 2, -1) < 0)
		return 0;
	if (sources[0].revents)
		serve_signal(node);
	if (sources[1].revents)
		serve_arrivals(node);
	for (size_t i = 0; i < slots->count; i++)
		if (sources[i + 2].revents && serve_slot(node, &slots->items[i], error))
			return -1;
	return 0;
}

static void tell_status(struct node *node)
{
	struct error error;

	if (!node->status.changed)
		return;
	node->status.waiting = count_waiting(node);
	node->status.held = node->queue.held;
	if (node_status_write(&node->spool, &node->status, &node->slots, &error))
		message_warning("%s", error.text);
	node->status.changed = false;
}

static int run_loop(struct node *node, struct error *error)
{
	while (!is_over(node)) {
		if (start_jobs(node, error) || keep_warm(node, error) || serve_cancels(node, error))
			return -1;
		tell_status(node);
		if (serve(node, error))
			return -1;
	}
	return 0;
}

/* --- the start --- */

static int open_events(struct node *node, struct error *error)
{
	char path[PATH_MAX];
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	node->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	node->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	snprintf(path, sizeof(path), "%s/" SPOOL_NEW, node->spool.path);
	/* A job that is linked in arrives by IN_CREATE; done/ tells of names that are free again.
	 */
	if (node->signal_fd < 0 || node->inotify_fd < 0 ||
	    inotify_add_watch(node->inotify_fd, path, IN_MOVED_TO | IN_CREATE) < 0)
		return error_errno(error, "watch %s", path);
	snprintf(path, sizeof(path), "%s/" SPOOL_DONE, node->spool.path);
	if (inotify_add_watch(node->inotify_fd, path, IN_MOVED_FROM | IN_DELETE) < 0)
		return error_errno(error, "watch %s", path);
	return 0;
}

static int run_node(struct node *node, struct error *error)
{
	/* Some that have done their job are still on their way out. */
	size_t workers = 2 * node->slot_count + node->warm_count;

	if (slots_open(&node->slots, workers, &node->options, error))
		return -1;
	node->rescans = node->has_cancels = node->status.changed = true;
	node->status.slots = node->slot_count;
	int failed = open_events(node, error) ||
		     spool_resume(&node->spool, &node->resumed, error) || run_loop(node, error);
	/* What failed here leaves no job without its state. */
	if (failed && !node->status.drains) {
		struct error ignored;
		drain(node);
		run_loop(node, &ignored);
	}
	slots_close(&node->slots);
	spool_queue_free(&node->resumed);
	spool_queue_free(&node->queue);
	spool_queue_free(&node->cancels);
	node->next = node->next_resumed = 0;
	node->status.ended = node->status.changed = true;
	tell_status(node);
	return failed ? -1 : 0;
}

static size_t take_count(const char *name, const char *text, size_t otherwise)
{
	uint64_t number;
	struct error error;

	if (!text)
		return otherwise;
	if (parse_number(text, 1, SLOTS_MAX / 4, &number, &error))
		message_usage("node", "option '--%s': %s", name, error.text);
	return number;
}

static int run_command(int argc, char **argv)
{
	/* Static for its size. */
	static struct node node;
	const char *spool = NULL, *slots = NULL, *warm = NULL;
	struct arguments arguments;
	struct error error;
	struct job job;
	const struct option options[] = {
		{0, "spool", OPTION_VALUE, &spool},
		{0, "slots", OPTION_VALUE, &slots},
		{0, "warm", OPTION_VALUE, &warm},
		{0, "reuse", OPTION_FLAG, &node.options.reuses},
		SUSPEND_OPTIONS(&node.options.suspend),
		{0, "boot-timeout", OPTION_VALUE, &node.options.timeouts.boot},
		{0, "heartbeat-timeout", OPTION_VALUE, &node.options.timeouts.heartbeat},
		{.name = NULL},
	};

	options_parse(&command_node, argc, argv, options, true, &arguments);
	if (!spool || arguments.command || arguments.positional.count > 0)
		message_usage("node", "--spool names the directory of jobs, and nothing else does");
	node.slot_count = take_count("slots", slots, 1);
	node.options.waits_ready = node.options.reuses || warm;
	node.warm_count = take_count("warm", warm, 0);
	timeouts_check(&command_node, &node.options.timeouts);
	suspend_check(&command_node, &node.options.suspend);
	job_init(&job);
	options_apply(&command_node, &arguments, &job);
	if (node.options.waits_ready && job.start == START_COLD)
		message_usage("node", "--warm and --reuse are for clones, and --start cold is not");
	node.options.job = &job;
	node.options.spool = &node.spool;
	int failed = spool_open(&node.spool, spool, &error);
	if (!failed) {
		failed = run_node(&node, &error);
		spool_close(&node.spool);
	}
	if (failed)
		message_error("%s", error.text);
	job_free(&job);
	arguments_free(&arguments);
	return failed ? EXIT_JOBVM_FAILED : EXIT_SUCCESS;
}

const struct command command_node = {
	.name = "node",
	.summary = "run the jobs that arrive in a spool directory",
	.usage =
		"Usage: jobvm node [OPTION]... --spool DIR\n"
		"Run each job disk (NAME.img) and submit description (NAME.sub) that is renamed into\n"
		"DIR/new/, and rename its results to DIR/done/NAME/. SIGTERM or Ctrl-C suspends what\n"
		"runs and ends the node; the next one goes on.\n\n"
		"  --spool DIR          made if it is missing\n"
		"  --slots N            jobs at once (1)\n"
		"  --warm N             VMs that wait, restored and paused, for a job of the shape that\n"
		"                       --request-memory and --request-cpus say\n"
		"  --reuse              one VM a slot runs job after job\n"
		"  --request-memory N, --request-cpus N\n" REQUEST_HOST_HELP SUSPEND_HELP
		"  --without-landlock   also where this kernel has no Landlock to confine with\n"
		"  --boot-timeout SECONDS, --heartbeat-timeout SECONDS\n"
		"  --quiet              no warnings, notes or progress\n\n"
		"Exit code: 0 when it was told to end, 125 when it cannot go on.\n",
	.run = run_command,
	.reads_disk = true,
};
