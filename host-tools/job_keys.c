#include "host-tools/job.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobdisk/layout.h"

#define KIB	       1024ULL
#define MIB	       (1024 * KIB)
#define NAME_MAX_BYTES 64

struct job_key {
	const char *name; /* a final '*' stands for any ending */
	int (*set)(struct job *job, const struct job_key *key, const char *value,
		   struct error *error);
	const char *manifest_key; /* the value's home, bounds and words; NULL: `field` has them */
	struct record_key field;  /* offset in struct job; required: may not be empty */
	uint64_t unit_bytes;	  /* what a size counts in that names no unit */
	const char *refusal;	  /* what to tell who asks for it */
	bool meaningless;	  /* HTCondor's, but nothing happens for it here */
};

/* --- where values go --- */

static struct record_key manifest_field(const char *name)
{
	size_t i = 0;

	while (strcmp(manifest_schema.keys[i].name, name) != 0)
		i++;
	struct record_key field = manifest_schema.keys[i];
	field.offset += offsetof(struct job, manifest);
	return field;
}

static struct record_key field_of(const struct job_key *key)
{
	return key->manifest_key ? manifest_field(key->manifest_key) : key->field;
}

static void *place(struct job *job, const struct record_key *field)
{
	return (char *)job + field->offset;
}

static int store_uint(struct job *job, const struct job_key *key, const char *value,
		      uint64_t number, struct error *error)
{
	struct record_key field = field_of(key);

	if (record_check_uint(&field, number, error))
		return error_prefix(error, "'%.100s' makes %s %" PRIu64, value,
				    field.name ? field.name : key->name, number);
	*(uint64_t *)place(job, &field) = number;
	return 0;
}

static void replace(char **place_of_text, const char *text)
{
	free(*place_of_text);
	*place_of_text = text ? memory_or_exit(strdup(text)) : NULL;
}

/* --- setters: single values --- */

static int set_size(struct job *job, const struct job_key *key, const char *value,
		    struct error *error)
{
	uint64_t bytes;

	if (parse_size(value, key->unit_bytes, &bytes, error))
		return -1;
	return store_uint(job, key, value, bytes, error);
}

/* HTCondor's -1 means no limit. */
static int set_transfer_max(struct job *job, const struct job_key *key, const char *value,
			    struct error *error)
{
	struct record_key field = field_of(key);

	if (strcmp(value, "-1") != 0)
		return set_size(job, key, value, error);
	*(uint64_t *)place(job, &field) = RECORD_UNSET;
	return 0;
}

static int set_duration(struct job *job, const struct job_key *key, const char *value,
			struct error *error)
{
	uint64_t milliseconds;

	if (parse_duration_ms(value, &milliseconds, error))
		return -1;
	return store_uint(job, key, value, milliseconds, error);
}

static int set_number(struct job *job, const struct job_key *key, const char *value,
		      struct error *error)
{
	struct record_key field = field_of(key);

	return parse_number(value, field.min, field.max, place(job, &field), error);
}

static int set_signal(struct job *job, const struct job_key *key, const char *value,
		      struct error *error)
{
	uint64_t number;

	if (parse_signal(value, &number, error))
		return -1;
	return store_uint(job, key, value, number, error);
}

static int set_bool(struct job *job, const struct job_key *key, const char *value,
		    struct error *error)
{
	struct record_key field = field_of(key);

	return parse_bool(value, place(job, &field), error);
}

static int set_word(struct job *job, const struct job_key *key, const char *value,
		    struct error *error)
{
	struct record_key field = field_of(key);
	char known[128] = "";

	for (unsigned i = 0; field.words[i]; i++) {
		if (strcasecmp(field.words[i], value) == 0) {
			*(unsigned *)place(job, &field) = i;
			return 0;
		}
		size_t used = strlen(known);
		snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "", field.words[i]);
	}
	return error_set(error, "'%.100s' is none of %s", value, known);
}

static int refuse_url(const char *path, struct error *error)
{
	size_t scheme =
		strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");

	if (scheme > 0 && strncmp(path + scheme, "://", 3) == 0)
		return error_set(error, "'%.100s' is a URL, and there is no network: give a path",
				 path);
	return 0;
}

static int set_path(struct job *job, const struct job_key *key, const char *value,
		    struct error *error)
{
	if (*value == '\0' && key->field.required)
		return error_set(error, "it is empty");
	if (refuse_url(value, error))
		return -1;
	replace(place(job, &key->field), *value ? value : NULL);
	return 0;
}

/* A directory, or what a server's address can be. */
static int set_from(struct job *job, const struct job_key *key, const char *value,
		    struct error *error)
{
	static const char *const schemes[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(value, schemes[i], strlen(schemes[i])) == 0) {
			replace(place(job, &key->field), value);
			return 0;
		}
	return strstr(value, "://") ? error_set(error, "'%.100s' is no URI of an NBD server", value)
				    : set_path(job, key, value, error);
}

static int set_stdin(struct job *job, const struct job_key *key, const char *value,
		     struct error *error)
{
	return set_path(job, key, strcmp(value, "/dev/null") == 0 ? "" : value, error);
}

/* --- setters: lists --- */

static int set_inputs(struct job *job, const struct job_key *key, const char *value,
		      struct error *error)
{
	struct strings *inputs = place(job, &key->field);

	strings_clear(inputs);
	if (strcmp(value, "\"\"") == 0)
		return 0;
	split_list(value, ",", inputs);
	for (size_t i = 0; i < inputs->count; i++)
		if (refuse_url(inputs->items[i], error))
			return -1;
	return 0;
}

static int set_arguments(struct job *job, const struct job_key *key, const char *value,
			 struct error *error)
{
	struct strings *arguments = place(job, &key->field);

	strings_clear(arguments);
	return split_arguments(value, arguments, error);
}

static int set_environment(struct job *job, const struct job_key *key, const char *value,
			   struct error *error)
{
	struct strings *environment = place(job, &key->field);

	strings_clear(environment);
	return split_environment(value, environment, error);
}

/* Appends the components of PATH to OUT, which has room; false at "..". */
static bool join_components(char *path, char *out)
{
	char *component;

	while ((component = strsep(&path, "/"))) {
		if (strcmp(component, "..") == 0)
			return false;
		if (*component == '\0' || strcmp(component, ".") == 0)
			continue;
		out = stpcpy(out, component);
		out = stpcpy(out, "/");
	}
	return true;
}

/* Whether no component of PATH is "..". */
static bool stays_below(const char *path)
{
	char *copy = memory_or_exit(strdup(path));
	char *out = memory_or_exit(malloc(strlen(path) + 2));
	bool stays = join_components(copy, out);

	free(copy);
	free(out);
	return stays;
}

/* "DIR/" and "DIR/." are what is in DIR, without DIR itself. */
static bool names_contents(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && (slash[1] == '\0' || strcmp(slash, "/.") == 0);
}

/* TEXT in normal form: relative to the workspace, a final slash kept. NULL on error. */
static char *workspace_path(const char *text, struct error *error)
{
	const char *inside = text;
	size_t root = strlen(WORKSPACE);

	if (refuse_url(text, error))
		return NULL;
	if (strncmp(text, WORKSPACE, root) == 0 && (text[root] == '/' || text[root] == '\0'))
		inside = text + root;

	char *copy = memory_or_exit(strdup(inside));
	char *path = memory_or_exit(calloc(1, strlen(inside) + 2));
	bool stays = join_components(copy, path) && (*text != '/' || inside != text);
	free(copy);
	if (!stays)
		error_set(error, "'%.100s' leaves the workspace %s", text, WORKSPACE);
	else if (*path == '\0')
		error_set(error,
			  "'%.100s' is the whole workspace: all that changed comes back when "
			  "transfer_output_files is not given",
			  text);
	if (!stays || *path == '\0') {
		free(path);
		return NULL;
	}
	if (!names_contents(inside))
		path[strlen(path) - 1] = '\0';
	return path;
}

static int set_outputs(struct job *job, const struct job_key *key, const char *value,
		       struct error *error)
{
	struct strings *outputs = place(job, &key->field);
	struct strings given = {0};
	int result = 0;

	strings_clear(outputs);
	job->manifest.outputs = OUTPUTS_DECLARED;
	if (strcmp(value, "\"\"") != 0)
		split_list(value, ",", &given);
	for (size_t i = 0; i < given.count; i++) {
		char *path = workspace_path(given.items[i], error);
		if (!path) {
			result = -1;
			break;
		}
		strings_take(outputs, path);
	}
	strings_clear(&given);
	return result;
}

static int add_remap(struct strings *remaps, char *from, char *to, struct error *error)
{
	from = trim(from);
	to = trim(to);
	if (*from == '\0' || *to == '\0' || strchr(from, '='))
		return error_set(error, "'%.100s = %.100s' is not of the form FROM = TO", from, to);
	if (refuse_url(to, error))
		return -1;

	if (*to == '/' || !stays_below(to))
		return error_set(error, "'%.100s' leaves the directory that outputs go to", to);
	char *path = workspace_path(from, error);
	if (!path)
		return -1;
	if (names_contents(path))
		path[strlen(path) - 1] = '\0';
	char *remap;
	if (asprintf(&remap, "%s=%s", path, to) < 0)
		remap = NULL;
	strings_take(remaps, memory_or_exit(remap));
	free(path);
	return 0;
}

/* Takes one "FROM = TO" and its semicolon off *TEXT, in place; \= and \; stand for themselves. */
static int take_remap(char **text, struct strings *remaps, struct error *error)
{
	char *from = *text;
	char *out = from;
	char *to = NULL;
	char *c;

	for (c = from; *c && *c != ';'; c++) {
		if (c[0] == '\\' && (c[1] == ';' || c[1] == '=' || c[1] == '\\'))
			*out++ = *++c;
		else if (*c != '=' || to)
			*out++ = *c;
		else {
			*out++ = '\0';
			to = out;
		}
	}
	*text = *c ? c + 1 : c;
	*out = '\0';
	if (!to && *trim(from) == '\0')
		return 0;
	if (!to)
		return error_set(error, "'%.100s' is not of the form FROM = TO", from);
	return add_remap(remaps, from, to, error);
}

static int set_remaps(struct job *job, const struct job_key *key, const char *value,
		      struct error *error)
{
	struct strings *remaps = place(job, &key->field);
	char *text = unquote(value, error);
	char *rest = text;
	int result = text ? 0 : -1;

	strings_clear(remaps);
	while (result == 0 && *rest)
		result = take_remap(&rest, remaps, error);
	free(text);
	return result;
}

static int set_getenv(struct job *job, const struct job_key *key, const char *value,
		      struct error *error)
{
	struct strings *patterns = place(job, &key->field);
	struct error not_a_bool;
	bool all;

	(void)error;
	strings_clear(patterns);
	if (parse_bool(value, &all, &not_a_bool))
		split_list(value, ", \t", patterns);
	else if (all)
		strings_add(patterns, "*");
	return 0;
}

/* --- setters: what HTCondor has and we have in part or not at all --- */

static int set_isolation(struct job *job, const struct job_key *key, const char *value,
			 struct error *error)
{
	bool hardware = strcasecmp(value, "hardware") == 0;

	*(bool *)place(job, &key->field) = hardware;
	if (!hardware && strcasecmp(value, "emulated") != 0)
		return error_set(error, "'%.100s' is none of hardware, emulated", value);
	return 0;
}

static int set_should_transfer(struct job *job, const struct job_key *key, const char *value,
			       struct error *error)
{
	(void)job;
	(void)key;
	if (strcasecmp(value, "YES") == 0 || strcasecmp(value, "IF_NEEDED") == 0)
		return 0;
	if (strcasecmp(value, "NO") == 0)
		return error_set(error,
				 "NO is impossible: the job shares no file system with the host");
	return error_set(error, "'%.100s' is none of YES, IF_NEEDED", value);
}

static int set_universe(struct job *job, const struct job_key *key, const char *value,
			struct error *error)
{
	(void)job;
	(void)key;
	if (strcasecmp(value, "vanilla") == 0)
		return 0;
	return error_set(error,
			 "there is no universe here but vanilla, not '%.100s' "
			 "(for a container's files, build an image and give jobvm_image)",
			 value);
}

static int set_gpus(struct job *job, const struct job_key *key, const char *value,
		    struct error *error)
{
	(void)job;
	(void)key;
	if (strcmp(value, "0") != 0 && strcmp(value, "") != 0)
		return error_set(error, "the virtual machine has no GPUs");
	return 0;
}

static int ignore(struct job *job, const struct job_key *key, const char *value,
		  struct error *error)
{
	(void)job;
	(void)key;
	(void)value;
	(void)error;
	return 0;
}

static int refuse(struct job *job, const struct job_key *key, const char *value,
		  struct error *error)
{
	(void)job;
	(void)value;
	return error_set(error, "not supported: %s", key->refusal);
}

/* --- the table --- */

static const char *const accel_words[] = {"auto", "kvm", "tcg", NULL};
const char *const job_start_words[] = {"auto", "clone", "cold", NULL};

#define JOB(member) .field.offset = offsetof(struct job, member)
#define MANIFEST(k) .manifest_key = (k)
#define IGNORED(n)                                                                                 \
	{                                                                                          \
		.name = (n), .set = ignore, .meaningless = true                                    \
	}
#define REFUSED(n, text)                                                                           \
	{                                                                                          \
		.name = (n), .set = refuse, .refusal = (text)                                      \
	}
#define IMAGE_INSTEAD "build a guest image and give jobvm_image"
#define PLAIN_VM      "the virtual machine is always jobvm's own"
#define NO_NETWORK    "there is no network; use transfer_input_files"

static const struct job_key job_keys[] = {
	/* HTCondor's, with HTCondor's meaning. */
	{"executable", set_path, JOB(executable), .field.required = true},
	{"transfer_executable", set_bool, JOB(transfer_executable)},
	{"arguments", set_arguments, JOB(arguments)},
	{"args", set_arguments, JOB(arguments)},
	{"environment", set_environment, JOB(environment)},
	{"env", set_environment, JOB(environment)},
	{"getenv", set_getenv, JOB(host_environment)},
	{"initialdir", set_path, JOB(directory), .field.required = true},
	{"initial_dir", set_path, JOB(directory), .field.required = true},
	{"input", set_stdin, JOB(stdin_path)},
	{"stdin", set_stdin, JOB(stdin_path)},
	{"output", set_path, JOB(stdout_path)},
	{"stdout", set_path, JOB(stdout_path)},
	{"error", set_path, JOB(stderr_path)},
	{"stderr", set_path, JOB(stderr_path)},
	{"log", set_path, JOB(log_path)},
	{"should_transfer_files", .set = set_should_transfer},
	{"transfer_input_files", set_inputs, JOB(inputs)},
	{"transfer_output_files", set_outputs, JOB(transfer_outputs)},
	{"transfer_output_remaps", set_remaps, JOB(transfer_output_remaps)},
	{"when_to_transfer_output", set_word, MANIFEST("when_to_transfer_output")},
	{"preserve_relative_paths", set_bool, MANIFEST("preserve_relative_paths")},
	{"max_transfer_input_mb", set_transfer_max, JOB(input_max_bytes),
	 .field.max = RECORD_UNSET - 1, .unit_bytes = MIB},
	{"max_transfer_output_mb", set_transfer_max, MANIFEST("output_max_bytes"),
	 .unit_bytes = MIB},
	{"request_cpus", set_number, MANIFEST("cpus")},
	{"request_memory", set_size, MANIFEST("memory_limit_bytes"), .unit_bytes = MIB},
	{"request_disk", set_size, JOB(disk_bytes), .field.max = 1ULL << 44, .unit_bytes = KIB},
	{"request_gpus", .set = set_gpus},
	{"allowed_execute_duration", set_duration, MANIFEST("time_limit_ms")},
	{"allowed_job_duration", set_duration, MANIFEST("job_time_limit_ms")},
	{"kill_sig", set_signal, MANIFEST("kill_signal")},
	{"job_max_vacate_time", set_duration, MANIFEST("kill_grace_ms")},
	{"success_exit_code", set_number, MANIFEST("success_exit_code")},
	{"checkpoint_exit_code", set_number, MANIFEST("checkpoint_exit_code")},
	{"max_retries", set_number, JOB(max_retries), .field.max = 1000 * 1000},
	{"coresize", set_size, MANIFEST("core_max_bytes"), .unit_bytes = 1},
	{"core_size", set_size, MANIFEST("core_max_bytes"), .unit_bytes = 1},
	{"stack_size", set_size, MANIFEST("stack_max_bytes"), .unit_bytes = 1},

	/* Ours. */
	{"jobvm_image", set_path, JOB(image_path), .field.required = true},
	{"jobvm_user", set_word, MANIFEST("user")},
	{"jobvm_privileged", set_bool, MANIFEST("privileged")},
	{"jobvm_fetch", set_word, MANIFEST("fetch")},
	{"jobvm_from", set_from, JOB(fetch.from), .field.required = true},
	{"jobvm_trace", set_path, JOB(fetch.trace_path), .field.required = true},
	{"jobvm_prefetch", set_path, JOB(fetch.prefetch_path), .field.required = true},
	{"jobvm_tls_certificates", set_path, JOB(fetch.tls_certificates), .field.required = true},
	{"jobvm_fetch_timeout", set_duration, JOB(fetch.timeout_ms), .field.min = 1,
	 .field.max = RECORD_UNSET - 1},
	{"jobvm_fetch_cache", set_size, JOB(fetch.cache_max_bytes), .field.max = 1ULL << 50,
	 .unit_bytes = KIB},
	{"jobvm_max_processes", set_number, MANIFEST("processes_max")},
	{"jobvm_max_stdout", set_size, MANIFEST("stdout_max_bytes"), .unit_bytes = 1},
	{"jobvm_max_stderr", set_size, MANIFEST("stderr_max_bytes"), .unit_bytes = 1},
	{"jobvm_output_overflow", set_word, MANIFEST("output_overflow")},
	{"jobvm_accel", set_word, JOB(accel), .field.words = accel_words},
	{"jobvm_require_isolation", set_isolation, JOB(require_hardware)},
	{"jobvm_start", set_word, JOB(start), .field.words = job_start_words},
	{"jobvm_report", set_path, JOB(report_path), .field.required = true},

	/* HTCondor's, without meaning here. */
	{"universe", .set = set_universe, .meaningless = true},
	IGNORED("accounting_group"),
	IGNORED("accounting_group_user"),
	IGNORED("allow_arguments_v1"),
	IGNORED("allow_environment_v1"),
	IGNORED("allow_startup_script"),
	IGNORED("batch_name"),
	IGNORED("batch_project"),
	IGNORED("batch_queue"),
	IGNORED("buffer_*"),
	IGNORED("checkpoint_destination"),
	IGNORED("compress_files"),
	IGNORED("concurrency_limits"),
	IGNORED("concurrency_limits_expr"),
	IGNORED("copy_to_spool"),
	IGNORED("cron_*"),
	IGNORED("dagman_log"),
	IGNORED("deferral_*"),
	IGNORED("description"),
	IGNORED("disk_usage"),
	IGNORED("dont_encrypt_*"),
	IGNORED("email_attributes"),
	IGNORED("encrypt_*"),
	IGNORED("erase_output_and_error_on_restart"),
	IGNORED("gpus_*"),
	IGNORED("hold"),
	IGNORED("hold_kill_sig"),
	IGNORED("image_size"),
	IGNORED("job_ad_information_attrs"),
	IGNORED("job_batch_name"),
	IGNORED("job_lease_duration"),
	IGNORED("job_machine_attrs*"),
	IGNORED("jobbatchname"),
	IGNORED("jobset"),
	IGNORED("keep_claim_idle"),
	IGNORED("leave_in_queue"),
	IGNORED("load_profile"),
	IGNORED("log_xml"),
	IGNORED("machine_count"),
	IGNORED("match_list_length"),
	IGNORED("max_idle"),
	IGNORED("max_job_retirement_time"),
	IGNORED("max_materialize"),
	IGNORED("memory_usage"),
	IGNORED("next_job_start_delay"),
	IGNORED("nice_user"),
	IGNORED("notification"),
	IGNORED("notify_user"),
	IGNORED("on_exit_*"),
	IGNORED("periodic_*"),
	IGNORED("preferences"),
	IGNORED("primary_unix_group"),
	IGNORED("prio"),
	IGNORED("priority"),
	IGNORED("rank"),
	IGNORED("remove_kill_sig"),
	IGNORED("rendezvousdir"),
	IGNORED("require_gpus"),
	IGNORED("requirements"),
	IGNORED("retry_request_memory*"),
	IGNORED("run_as_owner"),
	IGNORED("scitokens_file"),
	IGNORED("send_credential"),
	IGNORED("skip_filechecks"),
	IGNORED("skip_if_dataflow"),
	IGNORED("starter_debug"),
	IGNORED("starter_log"),
	IGNORED("stream_error"),
	IGNORED("stream_input"),
	IGNORED("stream_output"),
	IGNORED("submit_event_*"),
	IGNORED("transfer_checkpoint_files"),
	IGNORED("ulog_execute_attrs"),
	IGNORED("use_oauth_services"),
	IGNORED("use_scitokens"),
	IGNORED("use_x509userproxy"),
	IGNORED("want_*"),
	IGNORED("x509userproxy"),

	/* HTCondor's, and without them another job would run than the one that was meant. */
	REFUSED("container_*", IMAGE_INSTEAD),
	REFUSED("docker_*", IMAGE_INSTEAD),
	REFUSED("jar_files", "there is no Java universe"),
	REFUSED("java_vm_args", "there is no Java universe"),
	REFUSED("kill_sig_timeout", "its name is job_max_vacate_time"),
	REFUSED("noop_job", "every job is run"),
	REFUSED("output_destination", "outputs go to initialdir"),
	REFUSED("public_input_files", NO_NETWORK),
	REFUSED("remote_initialdir", "the job starts in " WORKSPACE),
	REFUSED("retry_until", "max_retries tries again until success_exit_code"),
	REFUSED("shell", "give executable and arguments"),
	REFUSED("transfer_plugins", NO_NETWORK),
	REFUSED("vm_*", PLAIN_VM),
	REFUSED("xen_*", PLAIN_VM),
};

#define KEY_COUNT (sizeof(job_keys) / sizeof(job_keys[0]))

static bool name_matches(const char *name, const char *key_name)
{
	size_t length = strlen(key_name);

	if (key_name[length - 1] == '*')
		return strncasecmp(name, key_name, length - 1) == 0;
	return strcasecmp(name, key_name) == 0;
}

/* Whole names stand before the patterns that would match them too. */
static const struct job_key *find_key(const char *name)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (name_matches(name, job_keys[i].name))
			return &job_keys[i];
	return NULL;
}

int job_set(struct job *job, const char *name, const char *value, struct error *error)
{
	const struct job_key *key = find_key(name);

	return key ? key->set(job, key, value, error) : 1;
}

enum job_key_kind job_key_kind(const char *name)
{
	const struct job_key *key = find_key(name);

	if (!key)
		return JOB_KEY_UNKNOWN;
	if (!key->meaningless)
		return JOB_KEY_USED;
	return key->set == ignore ? JOB_KEY_IGNORED : JOB_KEY_CHECKED;
}

/* --- did you mean --- */

static size_t least(size_t a, size_t b, size_t c)
{
	size_t smaller = a < b ? a : b;

	return smaller < c ? smaller : c;
}

/*
 * How many bytes to add, remove or change to make B, in lower case, of A, in any case; both shorter
 * than NAME_MAX_BYTES.
 */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[NAME_MAX_BYTES];
	size_t width = strlen(b);

	for (size_t j = 0; j <= width; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0]++;
		for (size_t j = 0; j < width; j++) {
			size_t changed = diagonal + (tolower((unsigned char)a[i]) != b[j]);
			diagonal = row[j + 1];
			row[j + 1] = least(changed, diagonal + 1, row[j] + 1);
		}
	}
	return row[width];
}

const char *job_nearest_key(const char *name)
{
	size_t length = strlen(name);
	size_t best = (length + 2) / 3 + 1;
	const char *nearest = NULL;

	if (length >= NAME_MAX_BYTES)
		return NULL;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		size_t distance = edit_distance(name, job_keys[i].name);
		if (distance < best && !strchr(job_keys[i].name, '*')) {
			best = distance;
			nearest = job_keys[i].name;
		}
	}
	return nearest;
}
