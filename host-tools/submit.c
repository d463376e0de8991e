#include "host-tools/submit.h"

#include <ctype.h>
#include <glob.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/macro.h"

#define BLANKS	   " \t"
#define LETTERS	   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
#define NAME_BYTES LETTERS "0123456789."

/* One run of jobvm is one cluster. */
#define CLUSTER 1

/* --- the lines of a file --- */

/* A line with its continuations joined and the blanks at both ends cut off. */
struct line {
	char *text;
	unsigned number;
};

struct source {
	const char *path;
	char *text; /* the lines lie in it */
	size_t length;
	struct line *lines; /* without comments and empty lines */
	size_t count, next;
};

static void source_free(struct source *source)
{
	free(source->text);
	free(source->lines);
	*source = (struct source){0};
}

static int read_text(struct source *source, FILE *file, struct error *error)
{
	size_t capacity = 0;
	size_t got;

	do {
		capacity = capacity ? 2 * capacity : 4096;
		source->text = memory_or_exit(realloc(source->text, capacity + 1));
		got = fread(source->text + source->length, 1, capacity - source->length, file);
		source->length += got;
		if (source->length > SUBMIT_MAX_BYTES)
			return error_set(error, "%s: larger than %d bytes", source->path,
					 SUBMIT_MAX_BYTES);
	} while (source->length == capacity);
	source->text[source->length] = '\0';
	return ferror(file) ? error_errno(error, "read %s", source->path) : 0;
}

static void add_line(struct source *source, char *text, unsigned number)
{
	/* Blanks before a continuation stay, but not where nothing follows. */
	text = trim(text);
	if (*text == '\0')
		return;
	if ((source->count & (source->count - 1)) == 0)
		source->lines = memory_or_exit(reallocarray(source->lines,
							    source->count ? 2 * source->count : 1,
							    sizeof(*source->lines)));
	source->lines[source->count++] = (struct line){.text = text, .number = number};
}

/* Cuts a line as it stands in the file off *REST. */
static char *take_line(char **rest)
{
	char *line = strsep(rest, "\n");
	size_t length = strlen(line);

	if (length > 0 && line[length - 1] == '\r')
		line[length - 1] = '\0';
	return trim(line);
}

/* A comment within a continued line is left out; the line goes on behind it, as in HTCondor. */
static void split_lines(struct source *source)
{
	char *rest = source->text;
	char *joined = NULL;
	char *joined_end = NULL;
	unsigned joined_number = 0;

	for (unsigned number = 1; rest; number++) {
		char *line = take_line(&rest);
		size_t length = strlen(line);
		if (*line == '#')
			continue;
		if (!joined) {
			joined = joined_end = line;
			joined_number = number;
		}
		bool continues = length > 0 && line[length - 1] == '\\';
		length -= continues;
		memmove(joined_end, line, length);
		joined_end += length;
		*joined_end = '\0';
		if (continues)
			continue;
		add_line(source, joined, joined_number);
		joined = NULL;
	}
	if (joined)
		add_line(source, joined, joined_number);
}

static unsigned line_of(const struct source *source, const char *position)
{
	unsigned number = 1;

	for (const char *c = source->text; c < position; c++)
		number += *c == '\n';
	return number;
}

static int source_read(struct source *source, const char *path, struct error *error)
{
	FILE *file = fopen(path, "re");

	*source = (struct source){.path = path};
	if (!file)
		return error_errno(error, "open %s", path);
	int result = read_text(source, file, error);
	fclose(file);
	const char *nul = result ? NULL : memchr(source->text, '\0', source->length);
	if (nul)
		result = error_set(error, "%s:%u: a NUL byte", path, line_of(source, nul));
	if (result) {
		source_free(source);
		return -1;
	}
	split_lines(source);
	return 0;
}

/* --- names and settings --- */

struct reader {
	submission_amend *amend;
	void *context;
	struct source source;
	struct macro_scope settings; /* every name that was given a value so far */
	struct submission *submission;
	struct error *error;
};

static int fail_at(struct reader *r, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail_at(struct reader *r, unsigned line, const char *format, ...)
{
	char reason[ERROR_TEXT_BYTES];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	return error_set(r->error, "%s:%u: %s", r->source.path, line, reason);
}

static void warn_meaningless(struct reader *r, unsigned line, const char *name)
{
	char *warning;

	if (asprintf(&warning, "%s:%u: '%s' has no meaning here", r->source.path, line, name) < 0)
		warning = NULL;
	strings_take(&r->submission->warnings, memory_or_exit(warning));
}

/* A name that some line refers to as $(NAME) is the user's own; any other must be known. */
static int check_unknown(struct reader *r, unsigned line, const char *name)
{
	for (size_t i = 0; i < r->source.count; i++)
		if (macro_is_used(r->source.lines[i].text, name))
			return 0;

	const char *nearest = job_nearest_key(name);
	if (nearest)
		return fail_at(r, line, "unknown name '%s' (nearest: '%s')", name, nearest);
	return fail_at(r, line, "unknown name '%s', and nothing refers to it as $(%s)", name, name);
}

/* Job attributes that HTCondor would only store: +NAME and My.NAME. */
static bool is_attribute(const char *name)
{
	return *name == '+' || strncasecmp(name, "my.", 3) == 0;
}

static int read_setting(struct reader *r, const struct line *line, const char *name,
			const char *value)
{
	enum job_key_kind kind = job_key_kind(name);

	if (is_attribute(name)) {
		warn_meaningless(r, line->number, name);
		return 0;
	}
	if (kind == JOB_KEY_UNKNOWN && check_unknown(r, line->number, name))
		return -1;
	if (kind == JOB_KEY_IGNORED || kind == JOB_KEY_CHECKED)
		warn_meaningless(r, line->number, name);

	/* `a = $(a) b` means the value that a has now; all other names wait for `queue`. */
	char *own = macro_expand_self(&r->settings, name, value);
	macro_set(&r->settings, name, own, line->number);
	free(own);
	return 0;
}

/* --- jobs --- */

/* One `queue` statement: COUNT jobs for each row, whose pieces the variables get. */
struct queue {
	unsigned line;
	uint64_t count;
	struct strings variables;
	struct strings rows;
};

static int set_key(struct reader *r, struct job *job, const struct macro *setting,
		   const struct macro_scope *scope)
{
	char *value = macro_expand(scope, setting->value, r->error);
	int result = -1;

	if (value)
		result = job_set(job, setting->name, trim(value), r->error);
	free(value);
	if (result)
		return error_prefix(r->error, "%s:%u: key '%s'", r->source.path, setting->line,
				    setting->name);
	return 0;
}

/* Sets the keys among SETTINGS, but for those that SCOPE finds elsewhere first. */
static int set_keys(struct reader *r, struct job *job, const struct macro_scope *settings,
		    const struct macro_scope *scope)
{
	for (size_t i = 0; i < settings->count; i++) {
		const struct macro *setting = &settings->items[i];
		enum job_key_kind kind = job_key_kind(setting->name);
		bool means_something = kind == JOB_KEY_USED || kind == JOB_KEY_CHECKED;
		if (means_something && macro_find(scope, setting->name) == setting &&
		    set_key(r, job, setting, scope))
			return -1;
	}
	return 0;
}

static void set_numbers(struct macro_scope *live, const struct queue *queue, uint64_t process,
			uint64_t row, uint64_t step)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{"Cluster", CLUSTER}, {"ClusterId", CLUSTER}, {"Process", process},
		{"ProcId", process},  {"Step", step},	      {"Row", row},
		{"ItemIndex", row},
	};
	char text[24];

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		snprintf(text, sizeof(text), "%" PRIu64, numbers[i].value);
		macro_set(live, numbers[i].name, text, queue->line);
	}
}

/* Gives each variable its piece of ROW; the last one gets all that remains. */
static void set_variables(struct macro_scope *live, const struct queue *queue, const char *row)
{
	char *copy = memory_or_exit(strdup(row));
	char *rest = copy;

	for (size_t i = 0; i < queue->variables.count; i++) {
		char *piece = rest;
		if (i + 1 < queue->variables.count) {
			rest += strcspn(rest, "," BLANKS);
			char *separator = rest;
			rest += strspn(rest, BLANKS);
			rest += *rest == ',';
			rest += strspn(rest, BLANKS);
			*separator = '\0';
		}
		macro_set(live, queue->variables.items[i], piece, queue->line);
	}
	free(copy);
}

static int fill_job(struct reader *r, struct job *job, const struct queue *queue, size_t row,
		    uint64_t step)
{
	struct macro_scope live = {.outer = &r->settings};

	set_numbers(&live, queue, job->process, row, step);
	set_variables(&live, queue, queue->rows.items[row]);
	int result = set_keys(r, job, &live, &live);
	if (result == 0)
		result = set_keys(r, job, &r->settings, &live);
	macro_clear(&live);
	if (result == 0 && r->amend)
		r->amend(r->context, job);
	if (result == 0 && job_finish(job, r->error))
		result = error_prefix(r->error, "%s:%u", r->source.path, queue->line);
	return result;
}

static int make_jobs(struct reader *r, const struct queue *queue)
{
	struct submission *s = r->submission;
	size_t room = SUBMIT_MAX_JOBS - s->job_count;

	if (queue->count == 0 || queue->rows.count == 0)
		return fail_at(r, queue->line, "this 'queue' asks for no job");
	if (queue->rows.count > room || queue->count > room / queue->rows.count)
		return fail_at(r, queue->line, "more than %d jobs", SUBMIT_MAX_JOBS);

	size_t total = s->job_count + queue->rows.count * queue->count;
	s->jobs = memory_or_exit(reallocarray(s->jobs, total, sizeof(*s->jobs)));
	for (size_t row = 0; row < queue->rows.count; row++)
		for (uint64_t step = 0; step < queue->count; step++) {
			struct job *job = &s->jobs[s->job_count];
			job_init(job);
			job->cluster = CLUSTER;
			job->process = (unsigned)s->job_count++;
			if (fill_job(r, job, queue, row, step))
				return -1;
		}
	return 0;
}

/* --- queue --- */

/* Adds the lines of the list that starts at TEXT, in parentheses or up to the line's end. */
static int read_list(struct reader *r, const struct queue *queue, const char *text,
		     struct strings *lines)
{
	size_t length = strlen(text);

	if (*text != '(') {
		strings_add(lines, text);
		return 0;
	}
	if (text[length - 1] == ')') {
		strings_take(lines, memory_or_exit(strndup(text + 1, length - 2)));
		return 0;
	}
	if (text[1])
		strings_add(lines, text + 1);
	for (; r->source.next < r->source.count; r->source.next++) {
		const char *line = r->source.lines[r->source.next].text;
		if (*line == ')') {
			r->source.next++;
			return 0;
		}
		strings_add(lines, line);
	}
	return fail_at(r, queue->line, "no line starts with the ')' that ends the list");
}

static int read_words(struct reader *r, const struct queue *queue, const char *text,
		      struct strings *words)
{
	struct strings lines = {0};
	int result = read_list(r, queue, text, &lines);

	if (result == 0 && queue->variables.count > 1)
		result = fail_at(r, queue->line, "only 'from' can set more than one variable");
	for (size_t i = 0; result == 0 && i < lines.count; i++)
		split_list(lines.items[i], "," BLANKS, words);
	strings_clear(&lines);
	return result;
}

static int read_in(struct reader *r, struct queue *queue, const char *text)
{
	return read_words(r, queue, text, &queue->rows);
}

static int read_rows_file(struct reader *r, struct queue *queue, const char *path)
{
	struct source source;
	struct error reason;

	if (source_read(&source, path, &reason))
		return fail_at(r, queue->line, "%s", reason.text);
	for (size_t i = 0; i < source.count; i++)
		strings_add(&queue->rows, source.lines[i].text);
	source_free(&source);
	return 0;
}

static int read_from(struct reader *r, struct queue *queue, const char *text)
{
	if (*text == '\0')
		return fail_at(r, queue->line, "'from' needs a file or a list in parentheses");
	if (text[strlen(text) - 1] == '|')
		return fail_at(r, queue->line, "'from' a command's output is not supported");
	if (*text != '(')
		return read_rows_file(r, queue, text);
	if (text[1])
		return fail_at(r, queue->line,
			       "the rows of 'from (' start on the next line "
			       "('in' takes a list on one line)");
	return read_list(r, queue, text, &queue->rows);
}

enum match { MATCH_ANY, MATCH_FILES, MATCH_DIRS };

/* Directories are marked by a final slash, as in HTCondor. */
static bool match_wants(enum match match, const char *path)
{
	bool directory = path[strlen(path) - 1] == '/';

	return match == MATCH_ANY || (match == MATCH_DIRS) == directory;
}

static bool has_string(const struct strings *strings, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(strings->items[i], text) == 0)
			return true;
	return false;
}

static int match_pattern(struct reader *r, struct queue *queue, enum match match,
			 const char *pattern)
{
	size_t before = queue->rows.count;
	glob_t found;
	int result = glob(pattern, GLOB_MARK, NULL, &found);

	if (result == GLOB_NOMATCH)
		return 0;
	if (result)
		return fail_at(r, queue->line, "cannot match '%.100s'", pattern);
	for (size_t i = 0; i < found.gl_pathc; i++)
		if (match_wants(match, found.gl_pathv[i]) &&
		    !has_string(&queue->rows, before, found.gl_pathv[i]))
			strings_add(&queue->rows, found.gl_pathv[i]);
	globfree(&found);
	return 0;
}

/* Whether TEXT starts with WORD; if so it is skipped, with the blanks behind it. */
static bool take_keyword(const char **text, const char *word)
{
	size_t length = strlen(word);

	if (strspn(*text, NAME_BYTES) != length || strncasecmp(*text, word, length) != 0)
		return false;
	*text += length;
	*text += strspn(*text, BLANKS);
	return true;
}

static int read_matching(struct reader *r, struct queue *queue, const char *text)
{
	struct strings patterns = {0};
	enum match match = MATCH_ANY;

	if (take_keyword(&text, "files"))
		match = MATCH_FILES;
	else if (take_keyword(&text, "dirs"))
		match = MATCH_DIRS;
	else
		take_keyword(&text, "any");
	int result = read_words(r, queue, text, &patterns);
	for (size_t i = 0; result == 0 && i < patterns.count; i++)
		result = match_pattern(r, queue, match, patterns.items[i]);
	strings_clear(&patterns);
	return result;
}

static const struct {
	const char *keyword;
	int (*read)(struct reader *r, struct queue *queue, const char *text);
} row_sources[] = {{"in", read_in}, {"from", read_from}, {"matching", read_matching}};

/* Reads variables up to in, from or matching, and then the rows. */
static int read_rows(struct reader *r, struct queue *queue, const char *text)
{
	for (;;) {
		for (size_t i = 0; i < sizeof(row_sources) / sizeof(row_sources[0]); i++) {
			if (!take_keyword(&text, row_sources[i].keyword))
				continue;
			if (*text == '[')
				return fail_at(r, queue->line, "slices are not supported");
			if (queue->variables.count == 0)
				strings_add(&queue->variables, "Item");
			return row_sources[i].read(r, queue, text);
		}
		size_t length = strspn(text, NAME_BYTES);
		if (length == 0)
			return fail_at(r, queue->line,
				       "'queue' takes a number, or variables and then "
				       "'in', 'from' or 'matching'");
		strings_take(&queue->variables, memory_or_exit(strndup(text, length)));
		text += length;
		text += strspn(text, "," BLANKS);
	}
}

static int read_count(struct reader *r, struct queue *queue, char **text)
{
	struct error reason;

	queue->count = 1;
	if (!isdigit((unsigned char)**text) && **text != '-')
		return 0;
	char *number = strsep(text, BLANKS);
	if (parse_number(number, 0, SUBMIT_MAX_JOBS, &queue->count, &reason))
		return fail_at(r, queue->line, "%s", reason.text);
	if (!*text)
		*text = number + strlen(number);
	*text += strspn(*text, BLANKS);
	return 0;
}

static int read_queue(struct reader *r, const struct line *line, const char *arguments)
{
	struct queue queue = {.line = line->number};
	char *text = macro_expand(&r->settings, arguments, r->error);
	char *rest = text;

	if (!text)
		return error_prefix(r->error, "%s:%u", r->source.path, line->number);
	int result = read_count(r, &queue, &rest);
	if (result == 0 && *rest == '\0')
		strings_add(&queue.rows, "");
	else if (result == 0)
		result = read_rows(r, &queue, rest);
	if (result == 0)
		result = make_jobs(r, &queue);
	free(text);
	strings_clear(&queue.variables);
	strings_clear(&queue.rows);
	return result;
}

/* --- statements --- */

static int refuse_statement(struct reader *r, const struct line *line)
{
	static const char *const unsupported[] = {"if",	     "elif",  "else",	 "endif",
						  "include", "error", "warning", "use"};

	for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
		const char *text = line->text;
		if (take_keyword(&text, unsupported[i]))
			return fail_at(r, line->number, "'%s' statements are not supported",
				       unsupported[i]);
	}
	return fail_at(r, line->number, "'%.64s' is neither NAME = VALUE nor 'queue'", line->text);
}

static int read_statement(struct reader *r, const struct line *line)
{
	size_t plus = line->text[0] == '+';
	size_t length = plus + strspn(line->text + plus, NAME_BYTES);
	const char *behind = line->text + length + strspn(line->text + length, BLANKS);
	const char *arguments = line->text;

	if (strncmp(behind, "@=", 2) == 0)
		return fail_at(r, line->number, "values of several lines (@=) are not supported");
	if (*behind == '=' && length > plus) {
		char *name = memory_or_exit(strndup(line->text, length));
		int result = read_setting(r, line, name, behind + 1 + strspn(behind + 1, BLANKS));
		free(name);
		return result;
	}
	if (take_keyword(&arguments, "queue"))
		return read_queue(r, line, arguments);
	return refuse_statement(r, line);
}

static int read_statements(struct reader *r)
{
	while (r->source.next < r->source.count)
		if (read_statement(r, &r->source.lines[r->source.next++]))
			return -1;
	if (r->submission->job_count == 0)
		return error_set(r->error, "%s: no 'queue' statement, so no job", r->source.path);
	return 0;
}

int submission_read(const char *path, submission_amend *amend, void *context,
		    struct submission *submission, struct error *error)
{
	struct reader r = {
		.amend = amend, .context = context, .submission = submission, .error = error};

	*submission = (struct submission){0};
	if (source_read(&r.source, path, error))
		return -1;
	int result = read_statements(&r);
	if (result)
		submission_free(submission);
	macro_clear(&r.settings);
	source_free(&r.source);
	return result;
}

void submission_free(struct submission *submission)
{
	for (size_t i = 0; i < submission->job_count; i++)
		job_free(&submission->jobs[i]);
	free(submission->jobs);
	strings_clear(&submission->warnings);
	*submission = (struct submission){0};
}
