#include "host-tools/macro.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tools/values.h"

#define LOWER	   "abcdefghijklmnopqrstuvwxyz"
#define LETTERS	   LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
#define NAME_BYTES LETTERS "0123456789."

/* Bounds on one expansion: macros that double each other grow exponentially. */
#define DEPTH_MAX     64
#define STEPS_MAX     100000
#define LENGTH_MAX    ((size_t)4 << 20)
#define REFERENCE_MAX 4096

/* --- names and values --- */

static struct macro *find_here(const struct macro_scope *scope, const char *name)
{
	for (size_t i = 0; i < scope->count; i++)
		if (strcasecmp(scope->items[i].name, name) == 0)
			return &scope->items[i];
	return NULL;
}

const struct macro *macro_find(const struct macro_scope *scope, const char *name)
{
	const struct macro *macro = NULL;

	for (; scope && !macro; scope = scope->outer)
		macro = find_here(scope, name);
	return macro;
}

void macro_set(struct macro_scope *scope, const char *name, const char *value, unsigned line)
{
	struct macro *macro = find_here(scope, name);

	if (!macro) {
		scope->items = memory_or_exit(
			reallocarray(scope->items, scope->count + 1, sizeof(*scope->items)));
		macro = &scope->items[scope->count++];
		*macro = (struct macro){.name = memory_or_exit(strdup(name))};
	}
	free(macro->value);
	macro->value = memory_or_exit(strdup(value));
	macro->line = line;
}

void macro_clear(struct macro_scope *scope)
{
	for (size_t i = 0; i < scope->count; i++) {
		free(scope->items[i].name);
		free(scope->items[i].value);
	}
	free(scope->items);
	*scope = (struct macro_scope){0};
}

/* --- references in a text --- */

enum function { FUNCTION_NONE, FUNCTION_MACRO, FUNCTION_ENV, FUNCTION_FILENAME, FUNCTION_REFUSED };

/* $FUNCTION(NAME:FALLBACK); the pieces lie in the text. */
struct reference {
	enum function function;
	const char *start, *end;
	const char *function_name, *name, *fallback; /* fallback is NULL where there is none */
	size_t function_length, name_length, fallback_length;
};

static const char *const refused_functions[] = {
	"CHOICE", "EVAL",   "INT",    "RANDOM_CHOICE", "RANDOM_INTEGER",
	"REAL",	  "STRING", "SUBSTR", "BASENAME",      "DIRNAME",
};

static enum function classify(const char *name, size_t length)
{
	if (length == 0)
		return FUNCTION_MACRO;
	if (length == 3 && memcmp(name, "ENV", 3) == 0)
		return FUNCTION_ENV;
	if (*name == 'F' && strspn(name + 1, LOWER) == length - 1)
		return FUNCTION_FILENAME;
	for (size_t i = 0; i < sizeof(refused_functions) / sizeof(refused_functions[0]); i++)
		if (strlen(refused_functions[i]) == length &&
		    memcmp(refused_functions[i], name, length) == 0)
			return FUNCTION_REFUSED;
	return FUNCTION_NONE;
}

/* The parenthesis that closes the one at OPEN, or NULL. */
static const char *closing_parenthesis(const char *open)
{
	unsigned depth = 0;

	for (const char *c = open; *c && c < open + REFERENCE_MAX; c++) {
		if (*c == '(')
			depth++;
		else if (*c == ')' && --depth == 0)
			return c;
	}
	return NULL;
}

/* Whether a reference stands at DOLLAR; what is not one, like a shell's $(ls -l), is plain text. */
static bool read_reference(const char *dollar, struct reference *r)
{
	const char *function = dollar + 1;
	size_t length = strspn(function, LETTERS);
	const char *open = function + length;
	const char *close = *open == '(' ? closing_parenthesis(open) : NULL;

	*r = (struct reference){
		.start = dollar, .function_name = function, .function_length = length};
	r->function = close ? classify(function, length) : FUNCTION_NONE;
	if (r->function == FUNCTION_NONE)
		return false;
	r->end = close + 1;
	r->name = open + 1;
	r->name_length = strspn(r->name, NAME_BYTES);
	const char *behind = r->name + r->name_length;
	if (*behind == ':') {
		r->fallback = behind + 1;
		r->fallback_length = (size_t)(close - r->fallback);
	}
	return r->function == FUNCTION_REFUSED ||
	       (r->name_length > 0 && (behind == close || r->fallback));
}

/* The next reference in TEXT; false: none. HTCondor's $$(NAME) is for others to expand. */
static bool next_reference(const char *text, struct reference *r)
{
	for (const char *c = strchr(text, '$'); c; c = strchr(c, '$')) {
		if (c[1] != '$' && read_reference(c, r))
			return true;
		c += c[1] == '$' ? 2 : 1;
	}
	return false;
}

static bool refers_to(const struct reference *r, const char *name)
{
	return strlen(name) == r->name_length && strncasecmp(r->name, name, r->name_length) == 0;
}

bool macro_is_used(const char *text, const char *name)
{
	struct reference r;

	/* On from the name, not from the end: a default may hold references too. */
	for (; next_reference(text, &r); text = r.name)
		if ((r.function == FUNCTION_MACRO || r.function == FUNCTION_FILENAME) &&
		    refers_to(&r, name))
			return true;
	return false;
}

/* --- expansion --- */

struct expansion {
	const struct macro_scope *scope;
	FILE *out;
	size_t length;
	unsigned steps, depth;
	struct error *error;
};

static int expand_into(struct expansion *e, const char *text);

static int put(struct expansion *e, const char *text, size_t length)
{
	e->length += length;
	if (e->length > LENGTH_MAX)
		return error_set(e->error, "expands to more than %zu bytes", LENGTH_MAX);
	fwrite(text, 1, length, e->out);
	return 0;
}

/* Expands into a string of its own, to be freed; NULL on error. */
static char *expand_aside(struct expansion *e, const char *text)
{
	FILE *outer = e->out;
	char *result = NULL;
	size_t length;

	e->out = memory_or_exit(open_memstream(&result, &length));
	int failed = expand_into(e, text);
	fclose(e->out);
	e->out = outer;
	if (failed) {
		free(result);
		return NULL;
	}
	return memory_or_exit(result);
}

static int expand_fallback(struct expansion *e, const struct reference *r)
{
	char *fallback = memory_or_exit(strndup(r->fallback, r->fallback_length));
	int result = expand_into(e, fallback);

	free(fallback);
	return result;
}

static int expand_env(struct expansion *e, const struct reference *r, const char *name)
{
	const char *value = getenv(name);

	if (value)
		return put(e, value, strlen(value));
	if (r->fallback)
		return expand_fallback(e, r);
	return error_set(e->error,
			 "the environment has no '%.64s' ($ENV(%.64s:DEFAULT) gives a default)",
			 name, name);
}

static int expand_macro(struct expansion *e, const struct reference *r, const char *name)
{
	const struct macro *macro = macro_find(e->scope, name);

	if (strcasecmp(name, "DOLLAR") == 0)
		return put(e, "$", 1);
	if (macro)
		return expand_into(e, macro->value);
	if (r->fallback)
		return expand_fallback(e, r);
	return error_set(
		e->error,
		"$(%.64s) is not defined ($(%.64s:DEFAULT) gives a default, $(DOLLAR) a plain $)",
		name, name);
}

static bool has_letter(const struct reference *r, char letter)
{
	return memchr(r->function_name + 1, letter, r->function_length - 1) != NULL;
}

/* The directories of PATH: all of them, or only the last one, with their final slash. */
static int put_parent(struct expansion *e, const struct reference *r, const char *path,
		      size_t length)
{
	if (!has_letter(r, 'p')) {
		const char *before = length > 1 ? memrchr(path, '/', length - 1) : NULL;
		length -= before ? (size_t)(before + 1 - path) : 0;
		path = before ? before + 1 : path;
	}
	if (has_letter(r, 'b') && length > 1)
		length--;
	return put(e, path, length);
}

/* $F...(): p or d for directories, n for the name, x for the extension, q for quotes; b without
 * marks. */
static int put_parts(struct expansion *e, const struct reference *r, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');
	size_t name_length = dot ? (size_t)(dot - name) : strlen(name);
	bool parent = has_letter(r, 'p') || has_letter(r, 'd');
	bool whole = !parent && !has_letter(r, 'n') && !has_letter(r, 'x');
	int result = 0;

	if (whole)
		return put(e, path, strlen(path));
	if (parent)
		result = put_parent(e, r, path, (size_t)(name - path));
	if (result == 0 && has_letter(r, 'n'))
		result = put(e, name, name_length);
	if (result == 0 && has_letter(r, 'x') && dot) {
		const char *extension = dot + has_letter(r, 'b');
		result = put(e, extension, strlen(extension));
	}
	return result;
}

static int expand_filename(struct expansion *e, const struct reference *r, const char *name)
{
	const struct macro *macro = macro_find(e->scope, name);
	const char *quote = has_letter(r, 'a') ? "'" : "\"";
	int quoted = has_letter(r, 'q');

	if (strspn(r->function_name + 1, "pdnxqab") != r->function_length - 1)
		return error_set(
			e->error,
			"$%.*s() is not supported: only p, d, n, x, q, a and b may follow $F",
			(int)r->function_length, r->function_name);
	if (!macro)
		return error_set(e->error, "'%.64s' is not defined", name);

	char *path = expand_aside(e, macro->value);
	if (!path)
		return -1;
	int result = put(e, quote, (size_t)quoted);
	if (result == 0)
		result = put_parts(e, r, path);
	if (result == 0)
		result = put(e, quote, (size_t)quoted);
	free(path);
	return result;
}

static int expand_reference(struct expansion *e, const struct reference *r)
{
	char *name = memory_or_exit(strndup(r->name, r->name_length));
	int result;

	if (r->function == FUNCTION_MACRO)
		result = expand_macro(e, r, name);
	else if (r->function == FUNCTION_ENV)
		result = expand_env(e, r, name);
	else if (r->function == FUNCTION_FILENAME)
		result = expand_filename(e, r, name);
	else
		result = error_set(e->error, "$%.*s() is not supported", (int)r->function_length,
				   r->function_name);
	free(name);
	return result;
}

static int expand_into(struct expansion *e, const char *text)
{
	struct reference r;
	int result = 0;

	if (++e->steps > STEPS_MAX || e->depth == DEPTH_MAX)
		return error_set(e->error, "its macros never end: does one refer to itself?");
	e->depth++;
	while (result == 0 && next_reference(text, &r)) {
		result = put(e, text, (size_t)(r.start - text));
		if (result == 0)
			result = expand_reference(e, &r);
		text = r.end;
	}
	e->depth--;
	return result ? result : put(e, text, strlen(text));
}

char *macro_expand(const struct macro_scope *scope, const char *text, struct error *error)
{
	struct expansion e = {.scope = scope, .error = error};

	return expand_aside(&e, text);
}

char *macro_expand_self(const struct macro_scope *scope, const char *name, const char *text)
{
	const struct macro *macro = macro_find(scope, name);
	struct reference r;
	char *result = NULL;
	size_t length;
	FILE *out = memory_or_exit(open_memstream(&result, &length));

	for (; next_reference(text, &r); text = r.end) {
		bool self = r.function == FUNCTION_MACRO && refers_to(&r, name);
		fwrite(text, 1, (size_t)(r.start - text), out);
		if (self && macro)
			fputs(macro->value, out);
		else if (self && r.fallback)
			fwrite(r.fallback, 1, r.fallback_length, out);
		else
			fwrite(r.start, 1, (size_t)(r.end - r.start), out);
	}
	fputs(text, out);
	fclose(out);
	return memory_or_exit(result);
}
