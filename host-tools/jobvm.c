/* jobvm: one program, git-style subcommands. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/options.h"
#include "host-tools/version.h"

static const struct command *const commands[] = {
	&command_run,	      &command_pack,	      &command_start,	       &command_inspect,
	&command_collect,     &command_recover,	      &command_suspend,	       &command_verify,
	&command_image_build, &command_image_inspect, &command_image_template, &command_serve,
	&command_node_status, &command_node,	      &command_doctor,
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void show_help(FILE *stream)
{
	fputs("Usage: jobvm COMMAND [OPTION]... [ARGUMENT]...\n"
	      "Run one untrusted batch job in one throw-away virtual machine without a network.\n\n",
	      stream);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(stream, "  %-14s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n'jobvm COMMAND --help' shows a command's options; the manual is jobvm(1).\n",
	      stream);
}

/* How many of ARGV's words are COMMAND's name: 0 when they are not. */
static int match(const struct command *command, int argc, char **argv)
{
	const char *blank = strchr(command->name, ' ');
	size_t first = blank ? (size_t)(blank - command->name) : strlen(command->name);

	if (strlen(argv[0]) != first || strncmp(argv[0], command->name, first) != 0)
		return 0;
	if (!blank)
		return 1;
	return argc > 1 && strcmp(argv[1], blank + 1) == 0 ? 2 : 0;
}

/*
 * A standard stream that is closed would be the next file that is opened, and what is said to a
 * person would end up in a job disk. A file that is too large (ulimit -f) shall be an error that
 * names it, not a signal.
 */
static void prepare_process(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
	if (fd > STDERR_FILENO)
		close(fd);
	signal(SIGXFSZ, SIG_IGN);
}

int main(int argc, char **argv)
{
	prepare_process();
	if (argc < 2) {
		show_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		puts("jobvm " JOBVM_VERSION);
		return EXIT_SUCCESS;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0) {
		show_help(stdout);
		return EXIT_SUCCESS;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		int words = match(commands[i], argc - 1, argv + 1);
		if (words)
			return commands[i]->run(argc - 1 - words, argv + 1 + words);
	}
	message_usage("", "'%s' is not a jobvm command", argv[1]);
}
