/*
 * sidefile: JOB.img.host.json, where `start` keeps what the host saw of a run, for `inspect` and
 * `collect`, and JOB.img.inputs, the metadata of the input disk that the job had. The job disk
 * itself is the guest's word.
 */
#ifndef HOST_TOOLS_SIDEFILE_H
#define HOST_TOOLS_SIDEFILE_H

#include <jansson.h>

#include "jobdisk/error.h"

/*
 * Writes HOST beside the job disk PATH, atomically, and before that a copy of INPUTS_FD, if that is
 * not -1. 0, or -1 with ERROR set.
 */
int sidefile_write(const char *path, const json_t *host, int inputs_fd, struct error *error);

/* The inputs' descriptor, the caller's, or -1: they are not there. */
int sidefile_open_inputs(const char *path);

/* Removes both, as far as they are there. */
void sidefile_remove(const char *path);

/* Reads it: 0 and *HOST owned by the caller; 1 when there is none; -1 with ERROR set. */
int sidefile_read(const char *path, json_t **host, struct error *error);

#endif
