/* jobvm node status: what a node says of itself. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "host-tools/exitcodes.h"
#include "host-tools/message.h"
#include "host-tools/node/status.h"
#include "host-tools/options.h"

static json_int_t number(const json_t *status, const char *key)
{
	return json_integer_value(json_object_get(status, key));
}

static void show(const json_t *status, bool runs)
{
	const char *state = json_string_value(json_object_get(status, "state"));
	const json_t *job;
	size_t i;

	if (runs)
		printf("node: %s, process %" PRId64 "\n", state ? state : "?",
		       (int64_t)number(status, "pid"));
	else
		puts("node: none");
	printf("jobs: %" PRId64 " waiting, %" PRId64 " held back by their names, %zu running "
	       "in %" PRId64 " slots, %" PRId64 " VMs ready\n",
	       (int64_t)number(status, "waiting"), (int64_t)number(status, "held"),
	       runs ? json_array_size(json_object_get(status, "running")) : 0,
	       (int64_t)number(status, "slots"), (int64_t)number(status, "ready"));
	printf("since its start: %" PRId64 " done, %" PRId64 " refused, %" PRId64
	       " failed, %" PRId64 " suspended\n",
	       (int64_t)number(status, "done"), (int64_t)number(status, "refused"),
	       (int64_t)number(status, "failed"), (int64_t)number(status, "suspended"));
	json_array_foreach(json_object_get(status, "running"), i, job)
	{
		const char *name = json_string_value(json_object_get(job, "job"));
		if (!runs || !name)
			continue;
		printf("%6" PRId64 " s  ", (int64_t)(time(NULL) - number(job, "since")));
		print_escaped(stdout, name);
		putchar('\n');
	}
}

static int run_status(int argc, char **argv)
{
	const char *spool = NULL;
	bool as_json = false, runs;
	struct arguments arguments;
	struct error error;
	const struct option options[] = {
		{0, "spool", OPTION_VALUE, &spool},
		{0, "json", OPTION_FLAG, &as_json},
		{.name = NULL},
	};

	options_parse(&command_node_status, argc, argv, options, false, &arguments);
	if (!spool || arguments.command || arguments.positional.count > 0)
		message_usage("node status", "--spool names the node's directory");
	json_t *status = node_status_read(spool, &runs, &error);
	if (!status) {
		message_error("%s", error.text);
		arguments_free(&arguments);
		return EXIT_JOBVM_FAILED;
	}
	/* One that was killed could not say so. */
	if (!runs)
		json_object_set_new(status, "state", json_string("ended"));
	if (as_json) {
		json_dumpf(status, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		show(status, runs);
	}
	json_decref(status);
	arguments_free(&arguments);
	return finish_stdout();
}

const struct command command_node_status = {
	.name = "node status",
	.summary = "show what the node of a spool directory does",
	.usage = "Usage: jobvm node status [--json] --spool DIR\n"
		 "Show what the node of this spool directory does, or did last.\n\n"
		 "  --json               as in DIR/status.json\n"
		 "  --quiet              no warnings or notes\n",
	.run = run_status,
};
