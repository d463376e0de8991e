/*
 * options: the command line of every subcommand. Options and arguments may be mixed; "--" ends
 * the options. Where a command takes a job, every key of the submit description is an option:
 * --request-memory 512M sets request_memory, --user sets jobvm_user.
 */
#ifndef HOST_TOOLS_OPTIONS_H
#define HOST_TOOLS_OPTIONS_H

#include "host-tools/job.h"

/* A subcommand; the table is in jobvm.c, the rows beside their code. */
struct command {
	const char *name; /* "image build" */
	const char *summary;
	const char *usage; /* the whole text of --help */
	int (*run)(int argc, char **argv);
	bool reads_disk; /* it knows --without-landlock */
};

extern const struct command command_run, command_image_build, command_image_inspect,
	command_image_template, command_pack, command_start, command_inspect, command_collect,
	command_recover, command_suspend, command_verify, command_doctor, command_serve,
	command_node, command_node_status;

/* An option that a command knows by itself. */
struct option {
	char letter; /* 0: none */
	const char *name;
	enum { OPTION_FLAG, OPTION_VALUE, OPTION_LIST } kind;
	void *target; /* bool *, const char **, struct strings * */
};

struct arguments {
	struct strings positional; /* before "--" */
	char **command;		   /* behind "--", ends with NULL; NULL without "--" */
	struct strings settings;   /* "NAME=VALUE" of the job's keys, in order */
};

/*
 * Reads ARGV (without the command's own name). OPTIONS ends with a row whose name is NULL;
 * --help and --quiet are known to every command, --without-landlock to those that read a disk; with
 * TAKES_JOB so are the job's keys. A usage error or --help ends the program.
 */
void options_parse(const struct command *command, int argc, char **argv,
		   const struct option *options, bool takes_job, struct arguments *arguments);

/*
 * The same for a command that takes one job disk, and of the job's keys only those that the
 * manifest does not say: image and accelerator, and with RUNS_JOB how the VM starts. Returns the
 * disk's path, which belongs to ARGUMENTS.
 */
const char *options_parse_disk(const struct command *command, int argc, char **argv,
			       const struct option *options, bool runs_job,
			       struct arguments *arguments);
void arguments_free(struct arguments *arguments);

/* Applies the settings to a job; a bad value ends the program as a usage error. */
void options_apply(const struct command *command, const struct arguments *arguments,
		   struct job *job);

#endif
