#include "host-tools/report.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host-tools/accel.h"
#include "host-tools/confine.h"
#include "host-tools/exitcodes.h"
#include "host-tools/jsontext.h"
#include "host-tools/message.h"
#include "host-tools/version.h"

const struct result *report_guest_result(const struct report *report)
{
	static struct result nothing;

	if (report->disk && report->disk->has_result)
		return &report->disk->result;
	nothing = result_defaults();
	return &nothing;
}

void report_free(struct report *report)
{
	json_decref(report->host);
	strings_clear(&report->missing);
	strings_clear(&report->skipped);
	collected_free(&report->collected);
	merged_free(&report->merged);
}

/* --- JSON pieces --- */

static json_t *json_number(uint64_t number)
{
	return number > INT64_MAX ? json_null() : json_integer((json_int_t)number);
}

static json_t *json_list(const struct record_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, jsontext_new(list->items[i]));
	return array;
}

static json_t *json_strings(const struct strings *strings)
{
	json_t *array = json_array();

	for (size_t i = 0; i < strings->count; i++)
		json_array_append_new(array, jsontext_new(strings->items[i]));
	return array;
}

static json_t *json_value(const struct record_key *key, const void *value)
{
	uint64_t number;

	switch (key->type) {
	case RECORD_STRING:
		return *(const char *const *)value ? jsontext_new(*(const char *const *)value)
						   : NULL;
	case RECORD_LIST:
		return json_list(value);
	case RECORD_UINT:
		number = *(const uint64_t *)value;
		return number == RECORD_UNSET ? NULL : json_number(number);
	case RECORD_SECONDS:
		number = *(const uint64_t *)value;
		return number == RECORD_UNSET ? NULL : json_real((double)number / 1e6);
	case RECORD_BOOL:
		return json_boolean(*(const bool *)value);
	case RECORD_WORD:
		return json_string(key->words[*(const unsigned *)value]);
	}
	return NULL;
}

/* Any record as an object with the record's own keys; what is not set is left out. */
static json_t *json_record(const struct record_schema *schema, const void *record)
{
	json_t *object = json_object();

	for (size_t i = 0; i < schema->key_count; i++) {
		const struct record_key *key = &schema->keys[i];
		json_t *value = json_value(key, (const char *)record + key->offset);
		if (value)
			json_object_set_new(object, key->name, value);
	}
	return object;
}

static json_t *json_change(const struct change *change)
{
	json_t *object = json_object();
	char mode[8];

	jsontext_set(object, "path", change->path);
	json_object_set_new(object, "type", json_string(file_type_name(change->stat.mode)));
	if (S_ISREG(change->stat.mode))
		json_object_set_new(object, "size_bytes", json_number(change->stat.size_bytes));
	snprintf(mode, sizeof(mode), "%04o", change->stat.mode & 07777);
	json_object_set_new(object, "mode", json_string(mode));
	return object;
}

static json_t *json_collected_item(const struct collected_item *item)
{
	json_t *object = json_object();

	jsontext_set(object, "path", item->path);
	json_object_set_new(object, "type", json_string(file_type_name(item->type)));
	if (S_ISREG(item->type))
		json_object_set_new(object, "size_bytes", json_number(item->size_bytes));
	if (S_ISREG(item->type))
		json_object_set_new(object, "sha256",
				    *item->sha256 ? json_string(item->sha256) : json_null());
	if (item->target)
		jsontext_set(object, "target", item->target);
	return object;
}

/* --- the host's section --- */

static json_t *json_time(time_t when)
{
	char text[32];
	struct tm parts;

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&when, &parts));
	return json_string(text);
}

static json_t *json_times(const struct vm_times *times)
{
	const struct {
		const char *name;
		uint64_t ms;
	} rows[] = {
		{"vmm_ready_ms", times->vmm_ready},   {"restored_ms", times->restored},
		{"first_word_ms", times->first_word}, {"job_started_ms", times->job_started},
		{"job_ended_ms", times->job_ended},   {"unmounted_ms", times->unmounted},
		{"vm_ended_ms", times->vm_ended},
	};
	json_t *object = json_object();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_object_set_new(object, rows[i].name, json_number(rows[i].ms));
	return object;
}

json_t *report_host_section(const struct image *image, enum job_accel accel, uint64_t memory_bytes,
			    const struct vm_outcome *outcome, time_t started_at)
{
	json_t *host = json_object();

	json_object_set_new(host, "jobvm_version", json_string(JOBVM_VERSION));
	json_object_set_new(host, "started_at", json_time(started_at));
	json_object_set_new(host, "accelerator", json_string(accel_name(accel)));
	json_object_set_new(host, "isolation", json_string(accel_isolation(accel)));
	json_object_set_new(host, "landlock_abi", json_integer(confine_landlock_abi()));
	json_object_set_new(host, "network_namespace", json_boolean(outcome->own_network));
	json_object_set_new(host, "image", jsontext_new(image->directory));
	json_object_set_new(host, "image_sha256", json_string(image->sha256));
	json_object_set_new(host, "kernel_release", jsontext_new(image->release));
	json_object_set_new(host, "machine", jsontext_new(image->machine));
	json_object_set_new(host, "vm_memory_bytes", json_number(memory_bytes));
	json_object_set_new(host, "vm_private_bytes", json_number(outcome->private_bytes));
	json_object_set_new(host, "clean_end", json_boolean(outcome->clean));
	if (!outcome->clean) {
		json_object_set_new(host, "status", json_string(job_status_words[outcome->status]));
		json_object_set_new(host, "message", jsontext_new(outcome->message));
	}
	if (outcome->fatal[0])
		json_object_set_new(host, "guest_fatal", jsontext_new(outcome->fatal));
	if (outcome->status == STATUS_CANCELLED && !outcome->clean)
		json_object_set_new(host, "cancel_signal", json_integer(outcome->cancel_signal));
	json_object_set_new(host, "stdout_bytes", json_number(outcome->stdout_bytes));
	json_object_set_new(host, "stderr_bytes", json_number(outcome->stderr_bytes));
	json_object_set_new(host, "disk_errors", json_number(outcome->disk_errors));
	json_object_set_new(host, "times", json_times(&outcome->times));
	return host;
}

void report_note_recovery(struct report *report, bool tried, const char *problem)
{
	json_object_set_new(report->host, REPORT_RECOVERY,
			    json_pack("{s:b, s:b, s:o}", "tried", tried, "succeeded",
				      tried && !problem, "message",
				      jsontext_new(problem ? problem : "")));
}

/* --- the verdict --- */

static void decide(struct report *report, enum job_status status, const char *message)
{
	report->status = status;
	snprintf(report->message, sizeof(report->message), "%s", message);
}

static enum job_status host_status(const json_t *host)
{
	const char *word = json_string_value(json_object_get(host, "status"));

	for (int i = 0; word && job_status_words[i]; i++)
		if (strcmp(job_status_words[i], word) == 0)
			return (enum job_status)i;
	return STATUS_INCOMPLETE;
}

static int verdict_exit_code(const struct report *report)
{
	const struct result *result = report_guest_result(report);

	switch (report->status) {
	case STATUS_COMPLETED:
		return (int)result->exit_code;
	case STATUS_SIGNALED:
		return EXIT_SIGNAL_BASE + (int)result->exit_signal;
	case STATUS_TIMEOUT:
		return EXIT_TIME_LIMIT;
	case STATUS_OUT_OF_MEMORY:
	case STATUS_OUTPUT_LIMIT:
		return EXIT_SIGNAL_BASE + SIGKILL;
	case STATUS_FAILED_TO_START:
		return result->exit_code == RECORD_UNSET ? EXIT_JOBVM_FAILED
							 : (int)result->exit_code;
	case STATUS_SUSPENDED:
		return EXIT_JOB_SUSPENDED;
	case STATUS_CANCELLED:
		return EXIT_SIGNAL_BASE +
		       (int)json_integer_value(json_object_get(report->host, "cancel_signal"));
	default:
		return EXIT_JOBVM_FAILED;
	}
}

bool report_job_succeeded(const struct report *report)
{
	return report->status == STATUS_COMPLETED &&
	       report_guest_result(report)->exit_code == report->manifest->success_exit_code;
}

bool report_end_was_clean(const struct report *report)
{
	return !report->host || json_is_true(json_object_get(report->host, "clean_end"));
}

/* PID 1 that gave up writes no other record than one that says so: this one is not its own. */
static bool is_contradicted(const struct report *report)
{
	return json_object_get(report->host, "guest_fatal") && report->disk &&
	       report->disk->has_result && report->disk->result.status != STATUS_FAILED_TO_START;
}

void report_decide(struct report *report, const char *disk_problem)
{
	const char *message = json_string_value(json_object_get(report->host, "message"));

	report->has_run = true;
	if (!report_end_was_clean(report))
		decide(report, host_status(report->host), message ? message : "");
	else if (disk_problem)
		decide(report, STATUS_INVALID_RESULT, disk_problem);
	else if (is_contradicted(report))
		decide(report, STATUS_INVALID_RESULT,
		       "PID 1 gave up, and the result record does not say so");
	else if (!report->disk || !report->disk->has_result)
		decide(report, STATUS_INCOMPLETE, "the job disk has no result record");
	else
		decide(report, report->disk->result.status,
		       report->disk->result.message ? report->disk->result.message : "");
	report->exit_code = verdict_exit_code(report);
}

/* --- output --- */

/* The walls around whoever read the disk for this report: this program, by its child. */
static json_t *json_reader(void)
{
	json_t *reader = json_object();

	json_object_set_new(reader, "landlock_abi", json_integer(confine_landlock_abi()));
	json_object_set_new(reader, "seccomp", json_boolean(confine_has_seccomp()));
	return reader;
}

/*
 * The report's text while it grows. Outputs may be very many: each is an object of jansson's, which
 * takes much more memory than its text, only while it is written.
 */
struct text {
	FILE *stream;
	int depth;     /* of objects and arrays that are open */
	bool is_empty; /* nothing is in the innermost one yet */
	bool failed;
};

/* json_dump_callback_t: line by line, for the object is not the outermost. */
static int write_indented(const char *bytes, size_t size, void *context)
{
	const struct text *text = context;

	for (size_t i = 0; i < size; i++) {
		fputc(bytes[i], text->stream);
		if (bytes[i] == '\n')
			fprintf(text->stream, "%*s", 2 * text->depth, "");
	}
	return 0;
}

static void start_item(struct text *text, const char *name)
{
	fprintf(text->stream, "%s\n%*s", text->is_empty ? "" : ",", 2 * text->depth, "");
	if (name)
		fprintf(text->stream, "\"%s\": ", name);
	text->is_empty = false;
}

/* Adds VALUE, which is now the text's, to the object (under NAME) or array that is open. */
static void put(struct text *text, const char *name, json_t *value)
{
	start_item(text, name);
	if (json_dump_callback(value, write_indented, text, JSON_INDENT(2) | JSON_ENCODE_ANY))
		text->failed = true;
	json_decref(value);
}

static void open_bracket(struct text *text, const char *name, char bracket)
{
	if (text->depth)
		start_item(text, name);
	fputc(bracket, text->stream);
	text->depth++;
	text->is_empty = true;
}

static void close_bracket(struct text *text, char bracket)
{
	text->depth--;
	if (!text->is_empty)
		fprintf(text->stream, "\n%*s", 2 * text->depth, "");
	fputc(bracket, text->stream);
	text->is_empty = false;
}

static void put_changes(struct text *text, const struct changes *changes, enum change_kind kind)
{
	open_bracket(text, change_kind_name(kind), '[');
	for (size_t i = 0; i < changes->count; i++)
		if (changes->items[i].kind == kind)
			put(text, NULL, json_change(&changes->items[i]));
	close_bracket(text, ']');
}

/* Why outputs are partial whose collection was not. */
static const char not_seen[] = "the job was not seen to end";

static void put_outputs(struct text *text, const struct report *report)
{
	open_bracket(text, "outputs", '{');
	for (enum change_kind kind = CHANGE_CREATED; kind <= CHANGE_DELETED; kind++)
		put_changes(text, &report->disk->changes, kind);
	open_bracket(text, "collected", '[');
	for (size_t i = 0; i < report->collected.count; i++)
		put(text, NULL, json_collected_item(&report->collected.items[i]));
	close_bracket(text, ']');
	put(text, "missing", json_strings(&report->missing));
	put(text, "skipped", json_strings(&report->skipped));
	put(text, "partial", json_boolean(report->partial));
	if (report->partial)
		put(text, "partial_reason",
		    jsontext_new(report->partial_reason[0] ? report->partial_reason : not_seen));
	if (report->partial && report->partial_limit)
		put(text, "partial_limit", json_string(report->partial_limit));
	if (report->disk->changes.cut_off)
		put(text, "cut_off", json_true());
	close_bracket(text, '}');
}

static json_t *json_conflict(const struct merged_conflict *conflict)
{
	json_t *object = json_object();

	jsontext_set(object, "path", conflict->path);
	json_object_set_new(object, "reason", json_string(conflict->reason));
	json_object_set_new(object, "outcome",
			    json_string(conflict->is_overwritten ? "overwritten" : "kept"));
	return object;
}

static json_t *json_applied(const struct merged *merged)
{
	json_t *object = json_object();

	for (enum change_kind kind = CHANGE_CREATED; kind <= CHANGE_DELETED; kind++)
		json_object_set_new(object, change_kind_name(kind),
				    json_number(merged->applied[kind]));
	return object;
}

static void put_merged(struct text *text, const struct merged *merged)
{
	if (merged->status == MERGED_NOT_ASKED)
		return;
	open_bracket(text, "merge", '{');
	put(text, "directory", jsontext_new(merged->directory));
	put(text, "status", json_string(merged_status_words[merged->status]));
	put(text, "message", jsontext_new(merged->message));
	put(text, "dry_run", json_boolean(merged->dry_run));
	put(text, "forced", json_boolean(merged->forced));
	put(text, "applied", json_applied(merged));
	put(text, "unchanged", json_number(merged->unchanged));
	open_bracket(text, "conflicts", '[');
	for (size_t i = 0; i < merged->conflict_count; i++)
		put(text, NULL, json_conflict(&merged->conflicts[i]));
	close_bracket(text, ']');
	put(text, "skipped", json_strings(&merged->skipped));
	close_bracket(text, '}');
}

static void put_report(struct text *text, const struct report *report)
{
	const struct disk *disk = report->disk;

	put(text, "format_version", json_integer(REPORT_FORMAT_VERSION));
	if (report->manifest)
		put(text, "job_id", jsontext_new(report->manifest->job_id));
	put(text, "status",
	    report->has_run ? json_string(job_status_words[report->status]) : json_null());
	put(text, "message", jsontext_new(report->message));
	put(text, "exit_code", report->has_run ? json_integer(report->exit_code) : json_null());
	/* Whether the job itself could have written what follows. */
	if (report->manifest)
		put(text, "guest_is_job", json_boolean(report->manifest->privileged));
	put(text, "guest",
	    disk && disk->has_result ? json_record(&result_schema, &disk->result) : json_null());
	put(text, "host", report->host ? json_incref(report->host) : json_null());
	if (disk && disk->has_changes)
		put_outputs(text, report);
	else
		put(text, "outputs", json_null());
	put_merged(text, &report->merged);
	put(text, "reader", json_reader());
	put(text, "collect_ms",
	    report->collect_from_ms ? json_number(now_ms() - report->collect_from_ms)
				    : json_null());
	put(text, "manifest",
	    report->manifest ? json_record(&manifest_schema, report->manifest) : json_null());
}

char *report_json(const struct report *report)
{
	char *json = NULL;
	size_t length;
	struct text text = {.stream = open_memstream(&json, &length)};

	if (!text.stream)
		return NULL;
	open_bracket(&text, NULL, '{');
	put_report(&text, report);
	close_bracket(&text, '}');
	fputc('\n', text.stream);
	if (fclose(text.stream) == 0 && !text.failed)
		return json;
	free(json);
	return NULL;
}

static double seconds(uint64_t microseconds)
{
	return microseconds == RECORD_UNSET ? 0 : (double)microseconds / 1e6;
}

static double megabytes(uint64_t bytes)
{
	return bytes == RECORD_UNSET ? 0 : (double)bytes / 1e6;
}

/* Limits as users set them: the submit description's name, and how to show its values. */
static const struct limit_name {
	const char *manifest_key, *submit_key;
	enum { IN_SECONDS, IN_BYTES, IN_PIECES } unit;
} limit_names[] = {
	{"time_limit_ms", "allowed_execute_duration", IN_SECONDS},
	{"memory_limit_bytes", "request_memory", IN_BYTES},
	{"stdout_max_bytes", "jobvm_max_stdout", IN_BYTES},
	{"stderr_max_bytes", "jobvm_max_stderr", IN_BYTES},
	{"processes_max", "jobvm_max_processes", IN_PIECES},
};

static void format_limit(const struct limit_name *name, uint64_t value, char *text, size_t size)
{
	if (name->unit == IN_SECONDS)
		snprintf(text, size, "%.3f s", (double)value / 1e3);
	else if (name->unit == IN_BYTES && value >= 1000 * 1000)
		snprintf(text, size, "%.1f MB", megabytes(value));
	else
		snprintf(text, size, "%" PRIu64 "%s", value,
			 name->unit == IN_BYTES ? " bytes" : "");
}

/* The guest has one time limit, the smaller of the two that there are. */
static const char *limit_key(const struct limit_name *name, const struct manifest *manifest)
{
	if (name->unit == IN_SECONDS && manifest->time_limit_ms == manifest->job_time_limit_ms)
		return "allowed_job_duration";
	return name->submit_key;
}

static void say_limit(const struct report *report)
{
	const struct result *result = report_guest_result(report);
	char observed[40], requested[40];

	for (size_t i = 0; i < sizeof(limit_names) / sizeof(limit_names[0]); i++) {
		if (strcmp(limit_names[i].manifest_key, result->limit) != 0)
			continue;
		format_limit(&limit_names[i], result->limit_observed, observed, sizeof(observed));
		format_limit(&limit_names[i], result->limit_requested, requested,
			     sizeof(requested));
		message_error("it had %s, and %s is %s", observed,
			      limit_key(&limit_names[i], report->manifest), requested);
	}
}

static const char *recovery_problem(const struct report *report)
{
	const json_t *recovery = json_object_get(report->host, REPORT_RECOVERY);
	const char *message = json_string_value(json_object_get(recovery, "message"));

	return message && *message ? message : NULL;
}

void report_say_recovery(const struct report *report)
{
	if (recovery_problem(report))
		message_error("%s", recovery_problem(report));
	else if (report->partial)
		message_warning("the outputs are partial: %s", not_seen);
}

void report_say(const struct report *report)
{
	const struct result *result = report_guest_result(report);
	const char *status = job_status_words[report->status];

	switch (report->status) {
	case STATUS_COMPLETED:
		break;
	case STATUS_SIGNALED:
		message_error("the job was ended by signal %d (%s)", (int)result->exit_signal,
			      strsignal((int)result->exit_signal));
		break;
	case STATUS_TIMEOUT:
	case STATUS_OUT_OF_MEMORY:
	case STATUS_OUTPUT_LIMIT:
		message_error("the job was ended: %s", status);
		if (result->limit)
			say_limit(report);
		break;
	case STATUS_FAILED_TO_START:
		message_error("the job did not start: %s%s%s", result->stage ? result->stage : "",
			      result->stage ? ": " : "", report->message);
		break;
	case STATUS_CANCELLED:
		message_note("%s", report->message);
		break;
	default:
		message_error("jobvm failed, not the job: %s: %s", status, report->message);
	}
	report_say_recovery(report);
	if (result->stdout_truncated)
		message_warning("the job's stdout was cut off at %" PRIu64 " bytes",
				report->manifest->stdout_max_bytes);
	if (result->stderr_truncated)
		message_warning("the job's stderr was cut off at %" PRIu64 " bytes",
				report->manifest->stderr_max_bytes);
}

void report_show_usage(const struct report *report, FILE *stream)
{
	const struct result *result = report_guest_result(report);

	if (!report->disk || !report->disk->has_result)
		return;
	fprintf(stream,
		"%.2f s wall, %.2f s user, %.2f s system; %.1f MB memory; "
		"%.1f MB read, %.1f MB written\n",
		seconds(result->time_wall), seconds(result->time_user),
		seconds(result->time_system), megabytes(result->memory_peak),
		megabytes(result->io_read_bytes), megabytes(result->io_write_bytes));
}

static void show_status(const struct report *report)
{
	if (!report->has_run) {
		printf("status   not run yet\n");
		return;
	}
	printf("status   %s", job_status_words[report->status]);
	if (report->status == STATUS_COMPLETED)
		printf(", exit code %d", report->exit_code);
	if (report->message[0]) {
		printf(": ");
		print_escaped(stdout, report->message);
	}
	putchar('\n');
}

static void show_recovery(const struct report *report)
{
	if (recovery_problem(report)) {
		printf("disk     ");
		print_escaped(stdout, recovery_problem(report));
		putchar('\n');
	} else if (report->partial) {
		printf("outputs  partial: %s\n", not_seen);
	}
}

static void show_command(const struct manifest *manifest)
{
	printf("command ");
	for (size_t i = 0; i < manifest->arguments.count; i++) {
		putchar(' ');
		print_escaped(stdout, manifest->arguments.items[i]);
	}
	putchar('\n');
}

static void show_changes(const struct changes *changes)
{
	for (size_t i = 0; i < changes->count; i++) {
		const struct change *change = &changes->items[i];
		printf("%-8s %04o %12" PRIu64 "  ", change_kind_name(change->kind),
		       change->stat.mode & 07777, change->stat.size_bytes);
		print_escaped(stdout, change->path);
		printf("%s\n", S_ISDIR(change->stat.mode) ? "/" : "");
	}
	if (changes->cut_off)
		printf("...      more than %d changes\n", CHANGES_MAX);
}

static void show_manifest(const struct manifest *manifest)
{
	printf("job      %s\n", manifest->job_id);
	show_command(manifest);
	printf("limits   %.0f MB memory, %" PRIu64 " processes, %" PRIu64 " CPUs",
	       megabytes(manifest->memory_limit_bytes), manifest->processes_max, manifest->cpus);
	if (manifest->time_limit_ms != RECORD_UNSET)
		printf(", %.0f s", (double)manifest->time_limit_ms / 1000);
	putchar('\n');
}

void report_show(const struct report *report)
{
	show_status(report);
	show_recovery(report);
	if (report->manifest)
		show_manifest(report->manifest);
	if (report->disk && report->disk->has_result) {
		printf("usage    ");
		report_show_usage(report, stdout);
	}
	if (report->disk && report->disk->has_changes)
		show_changes(&report->disk->changes);
}
