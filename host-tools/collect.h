/*
 * collect: brings a finished job's results from its disk to where the user wants them.
 */
#ifndef HOST_TOOLS_COLLECT_H
#define HOST_TOOLS_COLLECT_H

#include "host-tools/report.h"
#include "host-tools/sign.h"

/* Where results go. Paths are the user's, relative to the process's or DIRECTORY. */
struct collect_places {
	const char *directory;	   /* outputs land below it */
	int directory_fd;	   /* the same, held since it was prepared; or -1 */
	const char *outputs_below; /* "output" for `-o DIR`, "" for a submission; NULL: not kept */
	const char *stdout_path;   /* relative to DIRECTORY; NULL or /dev/null: not kept */
	const char *stderr_path;
	const char *report_path;     /* job.json */
	const char *console_path;    /* the guest's console log, where a run failed */
	const struct signer *signer; /* signs the report; or NULL */
};

/* The places below a results directory: DIR/output/, DIR/stdout, DIR/stderr, DIR/job.json. */
struct collect_places collect_places_in(const char *directory);

/*
 * Whether results can go to PLACES, before a job runs for nothing: the files' directories are
 * there, and what is there already under their names is not a special file. 0, or -1 with ERROR.
 */
int collect_check_places(const struct collect_places *places, struct error *error);

/*
 * Makes DIRECTORY, or accepts it if it is there, empty and not a symlink. *CREATED says which.
 * Returns its descriptor, or -1 with ERROR set.
 */
int collect_prepare_directory(const char *directory, bool *created, struct error *error);

/*
 * Collects outputs, stdout and stderr, notes in REPORT what is missing, skipped or partial, and
 * writes job.json last, its signature (job.json.sig) just before it. CONSOLE may be NULL. Declared
 * outputs that are missing and a collection that stops early turn REPORT's exit code into 125; a
 * signal stops it too, once, and is then in REPORT and its exit code. Returns 0; -1 with ERROR set
 * when something could not be written (job.json then says `partial`, if it could be).
 */
int collect_results(struct report *report, const struct collect_places *places,
		    const struct log *console, struct error *error);

#endif
