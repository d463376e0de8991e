/*
 * fuzz_answers: the answers of a confined child that was taken over by what it read
 * (host-tools/confined.h). To be included before the source file that has the parent's side.
 *
 * An input is a sequence of frames: a type, a length in 16 bits, and so many bytes.
 */
#ifndef TESTS_FUZZ_FUZZ_ANSWERS_H
#define TESTS_FUZZ_FUZZ_ANSWERS_H

#include "host-tools/confined.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_ANSWER_BYTES (128 << 10)

static struct {
	char bytes[FUZZ_ANSWER_BYTES];
	size_t size;
} fuzz_answers;

/* Makes what the child sends of an input; a type of 0xff is followed by what is no frame. */
static void fuzz_answers_set(const uint8_t *bytes, size_t size)
{
	size_t room = sizeof(fuzz_answers.bytes);

	fuzz_answers.size = 0;
	while (size >= 3) {
		uint32_t length = bytes[1] | (uint32_t)bytes[2] << 8;
		length = length < size - 3 ? length : (uint32_t)(size - 3);
		uint32_t header[2] = {CONFINED_FRAMES + bytes[0] % 8U, length};

		if (room - fuzz_answers.size < sizeof(header) + length)
			return;
		if (bytes[0] == 0xff)
			header[1] = UINT32_MAX;
		memcpy(fuzz_answers.bytes + fuzz_answers.size, header, sizeof(header));
		fuzz_answers.size += sizeof(header);
		memcpy(fuzz_answers.bytes + fuzz_answers.size, bytes + 3, length);
		fuzz_answers.size += length;
		bytes += 3 + length;
		size -= 3 + length;
	}
}

/* In the place of confined_run: no child, only what it would have sent. */
static int fuzz_answers_run(const struct confined *confined, confined_task *task,
			    confined_answer *answer, void *context, struct error *error)
{
	static struct frame frame;
	FILE *answers = fuzz_answers.size ? fmemopen(fuzz_answers.bytes, fuzz_answers.size, "r")
					  : fopen("/dev/null", "re");
	int received = 0, result = 0;

	(void)task;
	FUZZ_CHECK(answers);
	while (result == 0 && (received = frame_receive(&frame, answers)) > 0)
		result = answer(context, &frame, error);
	fclose(answers);
	if (result)
		return -1;
	return received ? error_set(error, "%s: no frame", confined->name) : 0;
}

#define confined_run fuzz_answers_run

#endif
