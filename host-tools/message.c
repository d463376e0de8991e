#include "host-tools/message.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tools/exitcodes.h"
#include "host-tools/utf8.h"
#include "host-tools/vmm/vm.h"

#define PROGRESS_AFTER_MS 500
#define PROGRESS_EVERY_MS 100

static bool quiet;
static bool progress_is_shown;
static const char *phase = "";
static uint64_t phase_start_ms, last_shown_ms;

void print_escaped(FILE *stream, const char *text)
{
	while (*text) {
		size_t length = utf8_printable_length(text);
		if (length > 0) {
			fwrite(text, 1, length, stream);
			text += length;
		} else {
			fprintf(stream, "\\x%02x", (unsigned char)*text++);
		}
	}
}

static void print_message(const char *kind, const char *format, va_list values)
{
	char text[2048];

	progress_clear();
	vsnprintf(text, sizeof(text), format, values);
	fprintf(stderr, "jobvm: %s", kind);
	print_escaped(stderr, text);
	fputc('\n', stderr);
}

void message_error(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	print_message("", format, values);
	va_end(values);
}

void message_warning(const char *format, ...)
{
	va_list values;

	if (quiet)
		return;
	va_start(values, format);
	print_message("warning: ", format, values);
	va_end(values);
}

void message_note(const char *format, ...)
{
	va_list values;

	if (quiet)
		return;
	va_start(values, format);
	print_message("", format, values);
	va_end(values);
}

void message_usage(const char *command, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	print_message("", format, values);
	va_end(values);
	fprintf(stderr, "Try 'jobvm %s%s--help'.\n", command, *command ? " " : "");
	exit(EXIT_USAGE);
}

int finish_stdout(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_SUCCESS;
	message_error("cannot write to stdout: %s", strerror(errno));
	return EXIT_JOBVM_FAILED;
}

void message_be_quiet(void)
{
	quiet = true;
}

void progress_phase(const char *name)
{
	progress_clear();
	phase = name;
	phase_start_ms = now_ms();
	last_shown_ms = 0;
}

void progress_show(const char *format, ...)
{
	char text[256];
	va_list values;
	uint64_t now = now_ms();

	if (quiet || !isatty(STDERR_FILENO) || now - phase_start_ms < PROGRESS_AFTER_MS ||
	    now - last_shown_ms < PROGRESS_EVERY_MS)
		return;
	last_shown_ms = now;
	va_start(values, format);
	vsnprintf(text, sizeof(text), format, values);
	va_end(values);
	fprintf(stderr, "\r\033[Kjobvm: %s: ", phase);
	print_escaped(stderr, text);
	fflush(stderr);
	progress_is_shown = true;
}

void progress_clear(void)
{
	if (!progress_is_shown)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	progress_is_shown = false;
}
