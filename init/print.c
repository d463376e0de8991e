/*
 * print: the C library's formatted output, in the part that PID 1 uses. The library's own brings
 * floating point and its streams along, which would be a fifth of PID 1.
 *
 * Conversions: %s %d %u %x %X %%, with a width (padded with zeros after a 0, else with spaces), a
 * precision for %s, and l, ll and z. Anything else comes out as it stands in the format.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DIGITS_MAX 24
#define LINE_BYTES 1024

/* Names in parentheses: elsewhere, headers have macros of these names. */

/* The text has SIZE bytes; what is longer is counted and lost, as C wants it. */
struct output {
	char *text;
	size_t size, length;
};

struct conversion {
	bool zeros, is_long;
	size_t width;
	size_t precision;
	char kind;
};

static void put(struct output *output, char c)
{
	if (output->length + 1 < output->size)
		output->text[output->length] = c;
	output->length++;
}

static void put_padded(struct output *output, const struct conversion *how, const char *text,
		       size_t length)
{
	for (size_t i = length; i < how->width; i++)
		put(output, how->zeros ? '0' : ' ');
	for (size_t i = 0; i < length; i++)
		put(output, text[i]);
}

static void put_number(struct output *output, const struct conversion *how, bool negative,
		       uint64_t number)
{
	const char *all_digits = how->kind == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	unsigned base = how->kind == 'x' || how->kind == 'X' ? 16 : 10;
	char digits[DIGITS_MAX];
	size_t start = sizeof(digits);

	do
		digits[--start] = all_digits[number % base];
	while (number /= base);
	while (how->zeros && sizeof(digits) - start + negative < how->width && start > 1)
		digits[--start] = '0';
	if (negative)
		digits[--start] = '-';
	put_padded(output, how, digits + start, sizeof(digits) - start);
}

static size_t parse_number(const char **format)
{
	size_t number = 0;

	for (; **format >= '0' && **format <= '9'; ++*format)
		number = number * 10 + (size_t)(**format - '0');
	return number;
}

/* FORMAT is after the '%', and is moved behind the conversion. */
static struct conversion parse(const char **format)
{
	struct conversion how = {.zeros = **format == '0', .precision = SIZE_MAX};

	how.width = parse_number(format);
	if (**format == '.') {
		++*format;
		how.precision = parse_number(format);
	}
	/* On x86_64, l, ll and z all mean 64 bits. */
	for (; **format == 'l' || **format == 'z'; ++*format)
		how.is_long = true;
	how.kind = **format;
	if (how.kind)
		++*format;
	return how;
}

int(vsnprintf)(char *text, size_t size, const char *format, va_list values)
{
	struct output output = {.text = text, .size = size};

	while (*format) {
		const char *start = format;
		if (*format++ != '%') {
			put(&output, *start);
			continue;
		}
		struct conversion how = parse(&format);
		if (how.kind == 's') {
			const char *string = va_arg(values, const char *);
			put_padded(&output, &how, string, strnlen(string, how.precision));
		} else if (how.kind == 'd') {
			long number = how.is_long ? va_arg(values, long) : va_arg(values, int);
			put_number(&output, &how, number < 0,
				   number < 0 ? -(uint64_t)number : (uint64_t)number);
		} else if (how.kind == 'u' || how.kind == 'x' || how.kind == 'X') {
			put_number(&output, &how, false,
				   how.is_long ? va_arg(values, unsigned long)
					       : va_arg(values, unsigned));
		} else if (how.kind == '%') {
			put(&output, '%');
		} else {
			put_padded(&output, &(struct conversion){0}, start,
				   (size_t)(format - start));
		}
	}
	if (size > 0)
		text[output.length < size ? output.length : size - 1] = '\0';
	return (int)output.length;
}

int(snprintf)(char *text, size_t size, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	int length = vsnprintf(text, size, format, values);
	va_end(values);
	return length;
}

/* One line at most: that is what PID 1 says. */
int(dprintf)(int fd, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list values;

	va_start(values, format);
	int length = vsnprintf(line, sizeof(line), format, values);
	va_end(values);
	if (length >= (int)sizeof(line))
		length = sizeof(line) - 1;
	return (int)write(fd, line, (size_t)length);
}
