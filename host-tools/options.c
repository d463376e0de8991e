#include "host-tools/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/confined.h"
#include "host-tools/message.h"

/* Job keys that need no value on the command line. */
static const char *const flag_keys[] = {"jobvm_privileged", "preserve_relative_paths"};

struct parser {
	const struct command *command;
	const struct option *options;
	bool takes_job;
	struct arguments *arguments;
	int argc, next;
	char **argv;
};

/* The key's name for an option's: dashes become underscores, and our own prefix is not needed. */
static bool find_job_key(const char *option, char *key, size_t size)
{
	char name[64];
	size_t length = strlen(option);

	if (length >= sizeof(name))
		return false;
	for (size_t i = 0; i <= length; i++)
		name[i] = option[i] == '-' ? '_' : option[i];
	snprintf(key, size, "%s", name);
	if (job_key_kind(key) == JOB_KEY_USED)
		return true;
	snprintf(key, size, "jobvm_%s", name);
	return job_key_kind(key) == JOB_KEY_USED;
}

static bool is_flag_key(const char *key)
{
	for (size_t i = 0; i < sizeof(flag_keys) / sizeof(flag_keys[0]); i++)
		if (strcmp(key, flag_keys[i]) == 0)
			return true;
	return false;
}

static const char *option_value(struct parser *p, const char *name, const char *attached)
{
	if (attached)
		return attached;
	if (p->next == p->argc)
		message_usage(p->command->name, "option '%s' needs a value", name);
	return p->argv[p->next++];
}

static void set_option(struct parser *p, const struct option *option, const char *name,
		       const char *attached)
{
	switch (option->kind) {
	case OPTION_FLAG:
		if (attached)
			message_usage(p->command->name, "option '%s' takes no value", name);
		*(bool *)option->target = true;
		break;
	case OPTION_VALUE:
		*(const char **)option->target = option_value(p, name, attached);
		break;
	case OPTION_LIST:
		strings_add(option->target, option_value(p, name, attached));
		break;
	}
}

static void set_job_key(struct parser *p, const char *key, const char *name, const char *attached)
{
	const char *value =
		is_flag_key(key) && !attached ? "true" : option_value(p, name, attached);
	char *setting;

	if (asprintf(&setting, "%s=%s", key, value) < 0)
		setting = NULL;
	strings_take(&p->arguments->settings, memory_or_exit(setting));
}

static void parse_long(struct parser *p, char *text)
{
	char *equals = strchr(text, '='), key[80];
	const char *attached = equals ? equals + 1 : NULL;

	if (equals)
		*equals = '\0';
	if (strcmp(text, "--help") == 0) {
		fputs(p->command->usage, stdout);
		exit(EXIT_SUCCESS);
	}
	if (strcmp(text, "--quiet") == 0) {
		message_be_quiet();
		return;
	}
	if (p->command->reads_disk && strcmp(text, "--without-landlock") == 0) {
		confined_allow_without_landlock();
		return;
	}
	for (const struct option *option = p->options; option->name; option++) {
		if (strcmp(option->name, text + 2) == 0) {
			set_option(p, option, text, attached);
			return;
		}
	}
	if (p->takes_job && find_job_key(text + 2, key, sizeof(key))) {
		set_job_key(p, key, text, attached);
		return;
	}
	message_usage(p->command->name, "unknown option '%s'", text);
}

static void parse_short(struct parser *p, char *text)
{
	char name[3] = {'-', text[1], '\0'};

	if (strcmp(text, "-h") == 0) {
		fputs(p->command->usage, stdout);
		exit(EXIT_SUCCESS);
	}
	for (const struct option *option = p->options; option->name; option++) {
		if (!option->letter || option->letter != text[1])
			continue;
		if (option->kind == OPTION_FLAG && text[2])
			message_usage(p->command->name, "option '%s' takes no value", name);
		set_option(p, option, name, text[2] ? text + 2 : NULL);
		return;
	}
	message_usage(p->command->name, "unknown option '%s'", text);
}

void options_parse(const struct command *command, int argc, char **argv,
		   const struct option *options, bool takes_job, struct arguments *arguments)
{
	struct parser p = {.command = command,
			   .options = options,
			   .takes_job = takes_job,
			   .arguments = arguments,
			   .argc = argc,
			   .argv = argv};

	*arguments = (struct arguments){.command = NULL};
	while (p.next < argc) {
		char *text = argv[p.next++];
		if (strcmp(text, "--") == 0) {
			arguments->command = argv + p.next;
			return;
		}
		if (strncmp(text, "--", 2) == 0)
			parse_long(&p, text);
		else if (text[0] == '-' && text[1])
			parse_short(&p, text);
		else
			strings_add(&arguments->positional, text);
	}
}

static bool is_of_key(const char *setting, const char *key)
{
	size_t length = strlen(key);

	return strncmp(setting, key, length) == 0 && setting[length] == '=';
}

static void check_host_keys(const struct command *command, const struct arguments *arguments,
			    bool runs_job)
{
#define FETCHED_BEFORE "what a job fetches it fetches when it runs"
	static const struct {
		const char *name;
		const char *refusal; /* where no job is run; NULL: it counts there too */
	} keys[] = {
		{"jobvm_image", NULL},
		{"jobvm_accel", NULL},
		{"jobvm_require_isolation", NULL},
		{"jobvm_start", "a recovery is always booted"},
		{"jobvm_from", FETCHED_BEFORE},
		{"jobvm_trace", FETCHED_BEFORE},
		{"jobvm_prefetch", FETCHED_BEFORE},
		{"jobvm_tls_certificates", FETCHED_BEFORE},
		{"jobvm_fetch_timeout", FETCHED_BEFORE},
		{"jobvm_fetch_cache", FETCHED_BEFORE},
	};
#undef FETCHED_BEFORE

	for (size_t i = 0; i < arguments->settings.count; i++) {
		const char *setting = arguments->settings.items[i];
		const char *refusal = "the manifest on the job disk says that";
		for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++)
			if (is_of_key(setting, keys[k].name))
				refusal = runs_job ? NULL : keys[k].refusal;
		if (refusal)
			message_usage(command->name, "'%s': %s", setting, refusal);
	}
}

const char *options_parse_disk(const struct command *command, int argc, char **argv,
			       const struct option *options, bool runs_job,
			       struct arguments *arguments)
{
	options_parse(command, argc, argv, options, true, arguments);
	if (arguments->command || arguments->positional.count != 1)
		message_usage(command->name, "exactly one job disk is needed");
	check_host_keys(command, arguments, runs_job);
	return arguments->positional.items[0];
}

void arguments_free(struct arguments *arguments)
{
	strings_clear(&arguments->positional);
	strings_clear(&arguments->settings);
}

/* What the user typed for a key: without our prefix, with dashes. */
static void option_name(const char *key, char *name, size_t size)
{
	snprintf(name, size, "--%s", strncmp(key, "jobvm_", 6) == 0 ? key + 6 : key);
	for (char *c = name; *c; c++)
		if (*c == '_')
			*c = '-';
}

void options_apply(const struct command *command, const struct arguments *arguments,
		   struct job *job)
{
	struct error error;

	for (size_t i = 0; i < arguments->settings.count; i++) {
		char *equals = strchr(arguments->settings.items[i], '='), name[80];
		*equals = '\0';
		int failed = job_set(job, arguments->settings.items[i], equals + 1, &error);
		option_name(arguments->settings.items[i], name, sizeof(name));
		*equals = '=';
		if (failed)
			message_usage(command->name, "option '%s': %s", name, error.text);
	}
}
