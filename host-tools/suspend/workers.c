#include "host-tools/suspend/workers.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORKERS_MAX 8

struct pool {
	pthread_mutex_t lock;
	uint64_t next, count;
	worker *work;
	void *context;
	uint64_t scratch_bytes;
	bool failed;
	struct error error; /* the first */
};

static bool take(struct pool *pool, uint64_t *item)
{
	pthread_mutex_lock(&pool->lock);
	bool more = !pool->failed && pool->next < pool->count;
	if (more)
		*item = pool->next++;
	pthread_mutex_unlock(&pool->lock);
	return more;
}

static void fail(struct pool *pool, const struct error *error)
{
	pthread_mutex_lock(&pool->lock);
	if (!pool->failed)
		pool->error = *error;
	pool->failed = true;
	pthread_mutex_unlock(&pool->lock);
}

static void *run(void *argument)
{
	struct pool *pool = argument;
	struct error error;
	uint64_t item;
	void *scratch = malloc(pool->scratch_bytes + 1);

	if (!scratch) {
		error_set(&error, "out of memory");
		fail(pool, &error);
	}
	while (take(pool, &item))
		if (pool->work(pool->context, item, scratch, &error))
			fail(pool, &error);
	free(scratch);
	return NULL;
}

static uint64_t thread_count(uint64_t items)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t count = processors < 1 ? 1 : (uint64_t)processors;

	if (count > WORKERS_MAX)
		count = WORKERS_MAX;
	return count < items ? count : items;
}

int workers_run(uint64_t count, worker *work, void *context, uint64_t scratch_bytes,
		struct error *error)
{
	struct pool pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
			    .count = count,
			    .work = work,
			    .context = context,
			    .scratch_bytes = scratch_bytes};
	pthread_t threads[WORKERS_MAX];
	uint64_t started = 0, wanted = thread_count(count);
	sigset_t all, before;

	/* Signals are for who started the work. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (started + 1 < wanted && pthread_create(&threads[started], NULL, run, &pool) == 0)
		started++;
	run(&pool);
	for (uint64_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!pool.failed)
		return 0;
	*error = pool.error;
	return -1;
}
