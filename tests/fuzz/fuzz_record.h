/* fuzz_record: what holds for every record that can be parsed. */
#ifndef TESTS_FUZZ_FUZZ_RECORD_H
#define TESTS_FUZZ_FUZZ_RECORD_H

#include "jobdisk/record.h"
#include "tests/fuzz/fuzz.h"

/*
 * Parses the SIZE bytes into OBJECT (of OBJECT_SIZE), which lives as long as BUFFER; if that works,
 * the record that is made of OBJECT must say the same again. Returns whether it worked.
 */
static inline bool fuzz_record(const struct record_schema *schema, const void *bytes, size_t size,
			       struct record_buffer *buffer, void *object, size_t object_size)
{
	static char once[RECORD_MAX_BYTES + 1], twice[RECORD_MAX_BYTES + 1];
	static struct record_buffer again;
	struct error error = {""};

	memcpy(buffer->text, bytes, size);
	if (record_parse(schema, "record", buffer, size, object, &error)) {
		FUZZ_CHECK(error.text[0]);
		return false;
	}
	long length = record_format(schema, object, once, &error);
	/* Escaped, a text may be three times as long. */
	FUZZ_CHECK(length >= 0 || size > RECORD_MAX_BYTES / 3 - 1024);
	if (length < 0)
		return true;
	void *copy = malloc(object_size);
	FUZZ_CHECK(copy);
	memcpy(again.text, once, (size_t)length);
	FUZZ_CHECK(record_parse(schema, "record", &again, (size_t)length, copy, &error) == 0);
	FUZZ_CHECK(record_format(schema, copy, twice, &error) == length);
	FUZZ_CHECK(memcmp(once, twice, (size_t)length) == 0);
	free(copy);
	return true;
}

#endif
