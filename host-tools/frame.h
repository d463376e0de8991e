/*
 * frame: what a confined child tells its parent, piece by piece through a pipe.
 *
 * A frame is a type, a length and values. The child may have been taken over by what it reads:
 * the parent bounds every frame and checks every value. Both are the same program, so numbers
 * have the host's own byte order.
 */
#ifndef HOST_TOOLS_FRAME_H
#define HOST_TOOLS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* A record, or a path with what is known of it. */
#define FRAME_BYTES_MAX (128 * 1024)

struct frame {
	uint32_t type, length;
	uint32_t position; /* of the value that is read next */
	bool bad;	   /* a value was missing, or did not fit */
	uint8_t bytes[FRAME_BYTES_MAX];
};

/* Empties FRAME for values to be put in. What does not fit makes it bad. */
void frame_begin(struct frame *frame, uint32_t type);
void frame_put_number(struct frame *frame, uint64_t number);
void frame_put_bytes(struct frame *frame, const void *bytes, size_t size);
void frame_put_text(struct frame *frame, const char *text);
/* 0, or -1 with errno when FRAME is bad or the pipe has no reader. */
int frame_send(const struct frame *frame, FILE *pipe);

/* 1: a frame was received; 0: the sender is gone; -1: what came is no frame. */
int frame_receive(struct frame *frame, FILE *pipe);
/* Values in the order in which they were put. One that is not there is 0 or "", and makes FRAME
 * bad. What is returned lives in FRAME. */
uint64_t frame_get_number(struct frame *frame);
const void *frame_get_bytes(struct frame *frame, size_t *size);
const char *frame_get_text(struct frame *frame);
/*
 * A text that must be the path of something below a directory: shorter than PATH_MAX, not absolute,
 * no name in it empty, "." or "..". Another makes FRAME bad.
 */
const char *frame_get_path(struct frame *frame);
/* Whether all values were there, and no more. */
bool frame_is_whole(const struct frame *frame);

#endif
