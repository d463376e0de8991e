/*
 * message: everything that jobvm says to a person, on stderr, and progress on a terminal.
 *
 * Text may hold names of hostile origin: control characters, escape sequences, invalid UTF-8
 * and marks that change the writing direction are shown as \xNN.
 */
#ifndef HOST_TOOLS_MESSAGE_H
#define HOST_TOOLS_MESSAGE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* "jobvm: TEXT" and a newline. */
void message_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "jobvm: warning: TEXT"; nothing when quiet. */
void message_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "jobvm: TEXT"; nothing when quiet. */
void message_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints a usage error with a hint to COMMAND's --help and exits 2. */
void message_usage(const char *command, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));

/* Flushes stdout: 0, or an error message and jobvm's exit code where it could not be written. */
int finish_stdout(void);

/* Silences warnings, notes and progress. */
void message_be_quiet(void);

/* Writes TEXT to STREAM, escaped as above. */
void print_escaped(FILE *stream, const char *text);

/*
 * Shows a line of progress on a terminal, replacing the last one; nothing elsewhere, nothing
 * within a phase's first half second, and not more often than ten times a second.
 */
void progress_phase(const char *name);
void progress_show(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Takes the line away, before anything else is printed. */
void progress_clear(void);

#endif
