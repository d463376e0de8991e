/*
 * error: how every library of jobvm reports failure.
 *
 * A function that can fail takes a `struct error *` last, returns -1 (or NULL) on failure and
 * has then put one sentence there that names the object: which file, line, key or device, and
 * what was wrong with it. Nothing here prints; programs do, once, at the top.
 *
 * The text may hold bytes of hostile origin (file names): whoever shows it escapes it.
 */
#ifndef JOBDISK_ERROR_H
#define JOBDISK_ERROR_H

#define ERROR_TEXT_BYTES 1024

struct error {
	char text[ERROR_TEXT_BYTES];
};

/* Formats the sentence into ERROR (cut to fit) and returns -1, so that `return error_set(...)`
 * reads well. */
int error_set(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Like error_set, and appends ": " and the text of errno as it was at the call. */
int error_errno(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "PREFIX: " before the sentence that is already there and returns -1. */
int error_prefix(struct error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The analyzer reads one file at a time: that these always return -1 it must be told. */
#ifdef __clang_analyzer__
#define error_set(...)	  (error_set(__VA_ARGS__), -1)
#define error_errno(...)  (error_errno(__VA_ARGS__), -1)
#define error_prefix(...) (error_prefix(__VA_ARGS__), -1)
#endif

#endif
