#include "host-tools/lazy/engine/remote.h"
#include "host-tools/lazy/engine/touched.h"

#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/lazy/map.h"

/* An attempt to connect takes no longer, whatever the timeout is. */
#define ATTEMPT_MS_MAX	10000
/* Between attempts; doubled each time. */
#define PAUSE_MS_MIN	50
#define PAUSE_MS_MAX	1000
#define READ_BYTES_MAX	(32 << 20)
#define MAP_READ_BYTES	(4 << 20)
#define IDENTITY_DIGITS 64

struct list {
	struct remote_read *first, *last;
};

struct remote {
	struct remote_options options;
	char identity[FETCH_IDENTITY_BYTES];
	uint64_t image_bytes;
	uint32_t read_bytes_max;
	int wake_fd;

	/* Of the thread, once it runs. */
	struct nbd_handle *handle; /* NULL: not connected */
	uint64_t progress_ms;	   /* when the server last said something */
	uint64_t pause_ms;
	struct list sent;

	pthread_t thread;
	bool is_running;
	pthread_mutex_t lock; /* guards what follows */
	struct list urgent, idle;
	_Atomic bool is_connected, is_stopping;
	_Atomic bool is_asleep; /* the thread, or it will be: it must be woken */
};

uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- lists --- */

static void append(struct list *list, struct remote_read *read)
{
	read->next = NULL;
	read->previous = list->last;
	if (list->last)
		list->last->next = read;
	else
		list->first = read;
	list->last = read;
}

static void take_out(struct list *list, struct remote_read *read)
{
	if (read->previous)
		read->previous->next = read->next;
	else
		list->first = read->next;
	if (read->next)
		read->next->previous = read->previous;
	else
		list->last = read->previous;
}

/* --- one connection --- */

/*
 * Waits for the server, or for WAKE_FD, at most WAIT_MS, and does what there is to do: 1 when the
 * server said something, 0, or -1.
 */
static int step(struct nbd_handle *handle, int wake_fd, int wait_ms)
{
	unsigned direction = nbd_aio_get_direction(handle);
	struct pollfd polled[2] = {
		{.fd = nbd_aio_get_fd(handle)},
		{.fd = wake_fd, .events = POLLIN},
	};

	if (direction & LIBNBD_AIO_DIRECTION_READ)
		polled[0].events |= POLLIN;
	if (direction & LIBNBD_AIO_DIRECTION_WRITE)
		polled[0].events |= POLLOUT;
	if (polled[0].fd < 0 || poll(polled, 2, wait_ms) < 0)
		return polled[0].fd >= 0 && errno == EINTR ? 0 : -1;
	if (polled[0].revents & (POLLIN | POLLHUP) && direction & LIBNBD_AIO_DIRECTION_READ)
		return nbd_aio_notify_read(handle) ? -1 : 1;
	if (polled[0].revents & POLLOUT)
		return nbd_aio_notify_write(handle);
	return polled[0].revents ? -1 : 0;
}

static bool is_over(struct nbd_handle *handle)
{
	return nbd_aio_is_dead(handle) == 1 || nbd_aio_is_closed(handle) == 1;
}

/* "URI: WHAT: " and libnbd's words for its last failure in this thread. */
static int nbd_failed(const struct remote *remote, const char *what, struct error *error)
{
	const char *text = nbd_get_error();

	return error_set(error, "%s: %s: %s", remote->options.uri, what,
			 text ? text : "the connection was closed");
}

/* Steps until CONDITION is no longer 0. */
static int wait_while(const struct remote *remote, struct nbd_handle *handle,
		      int (*condition)(struct nbd_handle *), uint64_t deadline_ms, const char *what,
		      struct error *error)
{
	while (condition(handle) == 1) {
		uint64_t now = monotonic_ms();

		if (remote->is_stopping)
			return error_set(error, "%s: stopped", remote->options.uri);
		if (now >= deadline_ms)
			return error_set(error, "%s: %s: no answer in time", remote->options.uri,
					 what);
		if (step(handle, -1, (int)(deadline_ms - now > 100 ? 100 : deadline_ms - now)) < 0)
			return nbd_failed(remote, what, error);
	}
	return 0;
}

static int is_connecting(struct nbd_handle *handle)
{
	return nbd_aio_is_connecting(handle) == 1;
}

static int set_up(const struct remote *remote, struct nbd_handle *handle)
{
	const char *certificates = remote->options.tls_certificates;

	return nbd_set_uri_allow_transports(handle, LIBNBD_ALLOW_TRANSPORT_TCP |
							    LIBNBD_ALLOW_TRANSPORT_UNIX) ||
	       nbd_set_uri_allow_local_file(handle, false) ||
	       (certificates && nbd_set_tls_certificates(handle, certificates)) ||
	       nbd_set_opt_mode(handle, true) || nbd_set_full_info(handle, true) ||
	       /* A simple reply brings all bytes of a read, or none. */
	       nbd_set_request_structured_replies(handle, false) ||
	       nbd_set_pread_initialize(handle, false) ||
	       nbd_aio_connect_uri(handle, remote->options.uri);
}

/* Chooses EXPORT on a connection that negotiates. */
static int go(const struct remote *remote, struct nbd_handle *handle, const char *export,
	      uint64_t deadline_ms, struct error *error)
{
	if (nbd_aio_is_negotiating(handle) != 1)
		return is_over(handle)
			       ? nbd_failed(remote, "connect", error)
			       : error_set(error, "%s: the server does not let exports be chosen",
					   remote->options.uri);
	if (nbd_set_export_name(handle, export) || nbd_aio_opt_go(handle, NBD_NULL_COMPLETION) < 0)
		return nbd_failed(remote, "connect", error);
	if (wait_while(remote, handle, is_connecting, deadline_ms, "connect", error))
		return -1;
	if (nbd_aio_is_ready(handle) != 1)
		return is_over(handle) ? nbd_failed(remote, "connect", error)
				       : error_set(error, "%s: the server has no export '%s'",
						   remote->options.uri, export);
	return 0;
}

static struct nbd_handle *connect_to(const struct remote *remote, const char *export,
				     struct error *error)
{
	uint64_t wait_ms = remote->options.timeout_ms < ATTEMPT_MS_MAX ? remote->options.timeout_ms
								       : ATTEMPT_MS_MAX;
	uint64_t deadline_ms = monotonic_ms() + wait_ms;
	struct nbd_handle *handle = nbd_create();

	if (!handle || set_up(remote, handle)) {
		nbd_failed(remote, "connect", error);
	} else if (wait_while(remote, handle, is_connecting, deadline_ms, "connect", error) == 0 &&
		   go(remote, handle, export, deadline_ms, error) == 0) {
		return handle;
	}
	if (handle)
		nbd_close(handle);
	return NULL;
}

/* The identity that the export's description names. */
static int read_identity(const struct remote *remote, struct nbd_handle *handle,
			 char identity[FETCH_IDENTITY_BYTES], struct error *error)
{
	static const char prefix[] = MAP_DESCRIPTION_PREFIX;
	char *description = nbd_get_export_description(handle);
	bool is_good = description && strncmp(description, prefix, sizeof(prefix) - 1) == 0;

	if (is_good) {
		const char *digits = description + sizeof(prefix) - 1;

		is_good = strlen(digits) == IDENTITY_DIGITS &&
			  strspn(digits, "0123456789abcdef") == IDENTITY_DIGITS;
		if (is_good)
			memcpy(identity, digits, FETCH_IDENTITY_BYTES);
	}
	free(description);
	return is_good ? 0
		       : error_set(error, "%s: what it serves is no tree of jobvm's",
				   remote->options.uri);
}

static uint32_t largest_read(struct nbd_handle *handle)
{
	int64_t most = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

	if (most < CACHE_BLOCK_BYTES || most > READ_BYTES_MAX)
		return most > READ_BYTES_MAX || most <= 0 ? READ_BYTES_MAX : CACHE_BLOCK_BYTES;
	return (uint32_t)(most / CACHE_BLOCK_BYTES * CACHE_BLOCK_BYTES);
}

/* --- opening --- */

static int first_connection(struct remote *remote, struct error *error)
{
	const char *wanted = remote->options.identity;

	remote->handle = connect_to(remote, "", error);
	if (!remote->handle || read_identity(remote, remote->handle, remote->identity, error))
		return -1;
	if (wanted && strcmp(wanted, remote->identity) != 0)
		return error_set(error, "%s: it serves the tree %s, not %.64s", remote->options.uri,
				 remote->identity, wanted);

	int64_t size = nbd_get_size(remote->handle);

	if (size <= 0 || size % CACHE_BLOCK_BYTES)
		return error_set(error, "%s: a disk cannot have %" PRId64 " bytes",
				 remote->options.uri, size);
	remote->image_bytes = (uint64_t)size;
	remote->read_bytes_max = largest_read(remote->handle);
	remote->is_connected = true;
	return 0;
}

struct remote *remote_open(const struct remote_options *options, struct error *error)
{
	struct remote *remote = calloc(1, sizeof(*remote));

	if (!remote) {
		error_errno(error, "%s", options->uri);
		return NULL;
	}
	remote->options = *options;
	remote->pause_ms = PAUSE_MS_MIN;
	pthread_mutex_init(&remote->lock, NULL);
	remote->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (remote->wake_fd < 0)
		error_errno(error, "make an event descriptor");
	else if (first_connection(remote, error) == 0)
		return remote;
	remote_close(remote);
	return NULL;
}

const char *remote_identity(const struct remote *remote)
{
	return remote->identity;
}

uint64_t remote_image_bytes(const struct remote *remote)
{
	return remote->image_bytes;
}

uint32_t remote_read_bytes_max(const struct remote *remote)
{
	return remote->read_bytes_max;
}

bool remote_is_connected(const struct remote *remote)
{
	return remote->is_connected;
}

/* --- the map --- */

struct map_read {
	bool is_done;
	int problem;
};

static int map_read_done(void *context, int *problem)
{
	struct map_read *read = context;

	read->is_done = true;
	read->problem = *problem;
	return 1;
}

static int read_part(const struct remote *remote, struct nbd_handle *handle, char *bytes,
		     uint32_t size, uint64_t offset, struct error *error)
{
	uint64_t deadline_ms = monotonic_ms() + remote->options.timeout_ms;
	struct map_read read = {.is_done = false};

	if (nbd_aio_pread(handle, bytes, size, offset,
			  (nbd_completion_callback){.callback = map_read_done, .user_data = &read},
			  0) < 0)
		return nbd_failed(remote, "read the map", error);
	while (!read.is_done) {
		uint64_t now = monotonic_ms();

		if (now >= deadline_ms)
			return error_set(error, "%s: read the map: no answer in time",
					 remote->options.uri);
		if (step(handle, -1, (int)(deadline_ms - now > 1000 ? 1000 : deadline_ms - now)) <
		    0)
			return nbd_failed(remote, "read the map", error);
	}
	errno = read.problem;
	return read.problem ? error_errno(error, "%s: read the map", remote->options.uri) : 0;
}

static void *read_export(const struct remote *remote, struct nbd_handle *handle, uint64_t *size,
			 struct error *error)
{
	char identity[FETCH_IDENTITY_BYTES];
	int64_t bytes = nbd_get_size(handle);
	uint32_t most =
		largest_read(handle) < MAP_READ_BYTES ? largest_read(handle) : MAP_READ_BYTES;

	if (read_identity(remote, handle, identity, error))
		return NULL;
	if (strcmp(identity, remote->identity) != 0 || bytes < MAP_HEADER_BYTES ||
	    (uint64_t)bytes > MAP_BYTES_MAX) {
		error_set(error, "%s: the map is not the disk's", remote->options.uri);
		return NULL;
	}
	char *map = malloc((size_t)bytes);
	if (!map)
		error_errno(error, "%s: the map has %" PRId64 " bytes", remote->options.uri, bytes);
	for (int64_t done = 0; map && done < bytes;) {
		uint32_t part = bytes - done < most ? (uint32_t)(bytes - done) : most;

		if (read_part(remote, handle, map + done, part, (uint64_t)done, error)) {
			free(map);
			return NULL;
		}
		done += part;
	}
	*size = (uint64_t)bytes;
	return map;
}

void *remote_read_map(const struct remote *remote, uint64_t *size, struct error *error)
{
	struct nbd_handle *handle = connect_to(remote, MAP_EXPORT, error);

	if (!handle)
		return NULL;
	void *map = read_export(remote, handle, size, error);
	nbd_close(handle);
	return map;
}

/* --- the thread --- */

/* Reads are done one by one: each call may queue others. */
static void fail_queued(struct remote *remote, int problem)
{
	for (;;) {
		pthread_mutex_lock(&remote->lock);
		struct list *list = remote->urgent.first ? &remote->urgent : &remote->idle;
		struct remote_read *read = list->first;
		if (read) {
			take_out(list, read);
			read->sent_ms = 1; /* nobody can take it back now */
		}
		pthread_mutex_unlock(&remote->lock);
		if (!read)
			return;
		read->done(read, problem);
	}
}

static void disconnect(struct remote *remote)
{
	struct nbd_handle *handle = remote->handle;
	struct remote_read *read;

	remote->handle = NULL;
	remote->is_connected = false;
	/* Completes what was sent, mostly. */
	if (handle)
		nbd_close(handle);
	while ((read = remote->sent.first)) {
		take_out(&remote->sent, read);
		read->done(read, ENOTCONN);
	}
}

/* Completions that come while a connection is closed are left to disconnect(). */
static int read_done(void *context, int *problem)
{
	struct remote_read *read = context;
	struct remote *remote = read->remote;

	if (!remote->handle || *problem == ENOTCONN || *problem == ESHUTDOWN) {
		remote->is_connected = false;
		return 1;
	}
	take_out(&remote->sent, read);
	read->done(read, *problem ? EIO : 0);
	return 1;
}

static struct remote_read *next_queued(struct remote *remote)
{
	pthread_mutex_lock(&remote->lock);
	struct list *list = remote->urgent.first ? &remote->urgent : &remote->idle;
	struct remote_read *read = list->first;
	if (read) {
		take_out(list, read);
		read->sent_ms = monotonic_ms();
	}
	pthread_mutex_unlock(&remote->lock);
	return read;
}

static void send_queued(struct remote *remote)
{
	struct remote_read *read;

	while (remote->is_connected && (read = next_queued(remote))) {
		if (!remote->sent.first)
			remote->progress_ms = read->sent_ms;
		append(&remote->sent, read);
		if (nbd_aio_pread(
			    remote->handle, read->buffer, read->bytes, read->offset,
			    (nbd_completion_callback){.callback = read_done, .user_data = read},
			    0) < 0)
			remote->is_connected = false;
	}
}

static bool has_queued(struct remote *remote)
{
	pthread_mutex_lock(&remote->lock);
	bool has = remote->urgent.first || remote->idle.first;
	pthread_mutex_unlock(&remote->lock);
	return has;
}

/* Does what the server gives to do; where that is nothing, waits until something is queued. */
static void wait_for_work(struct remote *remote)
{
	uint64_t count;

	remote->is_asleep = true;
	/* What was queued before that did not wake us. */
	int heard = step(remote->handle, remote->wake_fd, has_queued(remote) ? 0 : 1000);
	remote->is_asleep = false;
	/* Always: who woke us before the last sleep may only now have written it. */
	if (read(remote->wake_fd, &count, sizeof(count)) < 0)
		count = 0;
	if (heard > 0)
		remote->progress_ms = monotonic_ms();
	else if (heard < 0)
		remote->is_connected = false;
}

/* Does what there is to do on the connection, and waits a little where there is nothing. */
static void serve_connection(struct remote *remote)
{
	send_queued(remote);
	if (remote->is_connected)
		wait_for_work(remote);
	if (is_over(remote->handle) || (remote->sent.first && monotonic_ms() - remote->progress_ms >
								      remote->options.timeout_ms))
		remote->is_connected = false;
	if (remote->is_connected)
		return;
	state_note_problem(remote->options.state, "%s: the connection was lost",
			   remote->options.uri);
	disconnect(remote);
}

/* 1: connected; 0: not; -1: it is another disk. */
static int connect_again(struct remote *remote)
{
	char identity[FETCH_IDENTITY_BYTES];
	struct error error;
	struct nbd_handle *handle = connect_to(remote, "", &error);

	if (!handle)
		return 0;
	if (read_identity(remote, handle, identity, &error) == 0 &&
	    strcmp(identity, remote->identity) == 0 &&
	    nbd_get_size(handle) == (int64_t)remote->image_bytes) {
		remote->handle = handle;
		remote->progress_ms = monotonic_ms();
		remote->is_connected = true;
		return 1;
	}
	nbd_close(handle);
	return -1;
}

static void pause_a_little(struct remote *remote)
{
	uint64_t until_ms = monotonic_ms() + remote->pause_ms;

	for (uint64_t now = monotonic_ms(); now < until_ms && !remote->is_stopping;
	     now = monotonic_ms())
		poll(NULL, 0, until_ms - now > 50 ? 50 : (int)(until_ms - now));
	if (remote->pause_ms < PAUSE_MS_MAX)
		remote->pause_ms *= 2;
}

static void reconnect(struct remote *remote)
{
	int result = connect_again(remote);

	if (result > 0) {
		remote->pause_ms = PAUSE_MS_MIN;
		atomic_fetch_add(&remote->options.state->reconnects, 1);
		return;
	}
	if (result < 0) {
		/* Said even if something else was noted before: it explains what follows. */
		remote->options.state->problem_state = 0;
		state_note_problem(remote->options.state,
				   "%s: it now serves another tree: what was not fetched is lost",
				   remote->options.uri);
		fail_queued(remote, ESTALE);
	}
	pause_a_little(remote);
}

static void *run(void *context)
{
	struct remote *remote = context;

	while (!remote->is_stopping) {
		if (remote->handle)
			serve_connection(remote);
		else
			reconnect(remote);
	}
	disconnect(remote);
	fail_queued(remote, ENOTCONN);
	return NULL;
}

int remote_run(struct remote *remote, struct error *error)
{
	errno = pthread_create(&remote->thread, NULL, run, remote);
	if (errno)
		return error_errno(error, "start a thread");
	remote->is_running = true;
	return 0;
}

static void wake(struct remote *remote)
{
	const uint64_t one = 1;

	if (!atomic_exchange(&remote->is_asleep, false))
		return;
	if (write(remote->wake_fd, &one, sizeof(one)) < 0)
		return; /* it is awake */
}

void remote_submit(struct remote *remote, struct remote_read *read)
{
	read->remote = remote;
	read->sent_ms = 0;
	pthread_mutex_lock(&remote->lock);
	append(read->is_urgent ? &remote->urgent : &remote->idle, read);
	pthread_mutex_unlock(&remote->lock);
	wake(remote);
}

bool remote_cancel(struct remote *remote, struct remote_read *read)
{
	pthread_mutex_lock(&remote->lock);
	bool is_queued = !read->sent_ms;
	if (is_queued)
		take_out(read->is_urgent ? &remote->urgent : &remote->idle, read);
	pthread_mutex_unlock(&remote->lock);
	return is_queued;
}

void remote_close(struct remote *remote)
{
	if (!remote)
		return;
	remote->is_stopping = true;
	if (remote->is_running) {
		wake(remote);
		pthread_join(remote->thread, NULL);
	} else if (remote->handle) {
		nbd_close(remote->handle);
	}
	if (remote->wake_fd >= 0)
		close(remote->wake_fd);
	pthread_mutex_destroy(&remote->lock);
	free(remote);
}
