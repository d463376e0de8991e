/*
 * spool: the directory in which a node finds its jobs and leaves their results (docs/formats.md).
 *
 *   new/NAME.img, new/NAME.sub   renamed in by whoever has a job; PRIORITY@NAME goes before 0@NAME
 *   new/NAME.disk                a job disk that is to come back, with what the job left on it
 *   new/NAME.cancel              the job NAME is to end
 *   run/NAME.img, .sub, .disk    the node's, as it came: a job disk is copied, never run itself
 *   run/NAME.work*               what the job was suspended to
 *   run/NAME.out/                its results, being made
 *   done/NAME/                   its results, renamed out; of NAME.disk, job.img and what belongs
 * to it
 *
 * A job is over when run/ has its NAME.out and nothing else that it came as: whatever is killed, it
 * has one result, and is not lost.
 */
#ifndef HOST_TOOLS_NODE_SPOOL_H
#define HOST_TOOLS_NODE_SPOOL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "jobdisk/error.h"

#define SPOOL_NEW    "new"
#define SPOOL_RUN    "run"
#define SPOOL_DONE   "done"
#define SPOOL_STATUS "status.json"
#define SPOOL_LOCK   "lock" /* locked while there is a node */

/*
 * A disk, one that comes back, a description, what it is suspended to, its results: the ends of
 * names in run/. And of a file in new/ that cancels.
 */
#define SPOOL_DISK	  ".img"
#define SPOOL_RETURNED	  ".disk"
#define SPOOL_DESCRIPTION ".sub"
#define SPOOL_CANCEL	  ".cancel"
#define SPOOL_WORK	  ".work"
#define SPOOL_RESULTS	  ".out"

/* In the results of a job that could not be run: why. */
#define SPOOL_ERROR "error"

/* In the results of a disk that comes back: that disk. */
#define SPOOL_JOB_DISK "job.img"

/* What jobs come as: the three ends of their names, and NULL. */
extern const char *const spool_kinds[];

/* Longer names are left where they are: what is made of them must be names too. */
#define SPOOL_NAME_MAX 200

struct spool {
	char path[PATH_MAX / 2]; /* absolute */
	int lock_fd;
};

struct spool_job {
	char name[SPOOL_NAME_MAX + 1];
	char file[NAME_MAX + 1]; /* in new/; "": it is in run/ already */
	int64_t priority;
	struct timespec arrived;
};

struct spool_queue {
	struct spool_job *jobs; /* the next one first */
	size_t count, capacity;
	size_t held; /* are not in it: their names are taken, by results or a job */
};

/*
 * Opens the spool PATH, makes what is missing of it, and locks it: a spool has one node. Processes
 * that are forked have the lock too: as long as one is there, no other node begins. -1 with ERROR
 * set and nothing to close.
 */
int spool_open(struct spool *spool, const char *path, struct error *error);
void spool_close(const struct spool *spool);

/* Whether the spool PATH has a node, as far as can be seen: another user's cannot be asked. */
bool spool_has_node(const char *path);

/* PATH/ROOM/NAME with SUFFIX. */
void spool_path(const struct spool *spool, const char *room, const char *name, const char *suffix,
		char path[PATH_MAX]);

/*
 * What a node that ended left: results that are whole are delivered, and jobs that are not over
 * come into QUEUE. For the start, when nothing runs.
 */
int spool_resume(const struct spool *spool, struct spool_queue *queue, struct error *error);

/* Fills QUEUE with what has arrived, by priority and then by the time of arrival. */
int spool_scan(const struct spool *spool, struct spool_queue *queue, struct error *error);
/* Puts JOB behind all others. */
int spool_queue_add(struct spool_queue *queue, const struct spool_job *job, struct error *error);
void spool_queue_free(struct spool_queue *queue);

/* Makes an arrived JOB the node's. 0; 1: it is gone; -1 with ERROR set. */
int spool_claim(const struct spool *spool, const struct spool_job *job, struct error *error);

/*
 * Fills CANCELS with the jobs that are to end, as who may say so says: who owns them, or the node's
 * own user. What no job of this node is meant by is removed.
 */
int spool_cancels(const struct spool *spool, struct spool_queue *cancels, struct error *error);
/* Whether a file of that name in new/ says so. */
bool spool_is_cancel(const char *file);
/* Job NAME was told to end. */
void spool_end_cancel(const struct spool *spool, const char *name);

/*
 * The results of job NAME are whole: it is over, and they become its submitter's. 0; 1 with ERROR
 * set: somebody else's are there under its name, and they wait for the next node; -1 with ERROR.
 */
int spool_deliver(const struct spool *spool, const char *name, struct error *error);

/* Removes results that were not finished. */
int spool_drop_results(const struct spool *spool, const char *name, struct error *error);

#endif
