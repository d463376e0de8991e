/*
 * state_format: how a state lies in its file, for the files of state.h alone.
 *
 *   head     STATE_HEAD_BYTES
 *   frames   one after the other
 *   index    a struct state_frame for each, in that order
 *   facts    a record (state_schema)
 *   mac      HMAC-SHA256 of head, index and facts
 *
 * A frame of memory is, uncompressed, the number of runs in two bytes, the runs, and the pages of
 * those that are data. Numbers are little-endian, as on every machine that this runs on.
 */
#ifndef HOST_TOOLS_SUSPEND_STATE_FORMAT_H
#define HOST_TOOLS_SUSPEND_STATE_FORMAT_H

#include "host-tools/suspend/state.h"
#include "imagebuilder/digest.h"

#define STATE_MAGIC	      "jobvm-state"
#define STATE_MAC_BYTES	      DIGEST_BYTES
#define STATE_FRAMES_MAX      (1 << 20)
#define STATE_SUFFIX_DIGITS   16
/* QEMU's is some 50 to 400 KB. */
#define STATE_OTHER_MAX_BYTES (64ULL << 20)

struct state_head {
	char magic[16]; /* STATE_MAGIC, a blank and the version */
	uint64_t index_offset, frame_count, facts_bytes;
	uint8_t unused[24]; /* zeros */
};

#define STATE_HEAD_BYTES sizeof(struct state_head)

enum state_frame_kind { STATE_DEVICE, STATE_NOTES, STATE_MEMORY, STATE_KINDS };

struct state_frame {
	uint32_t kind;
	uint32_t is_packed;  /* by zstd */
	uint64_t first_page; /* of memory */
	uint64_t offset, stored_bytes, raw_bytes;
	uint8_t sha256[DIGEST_BYTES]; /* of what is stored */
};

struct state_run {
	uint16_t first, count; /* pages, from the frame's first on */
	uint16_t kind;	       /* MEMORY_ZERO, MEMORY_DATA */
};

/* Each page can be a run of its own. */
#define STATE_TABLE_MAX_BYTES (sizeof(uint16_t) + MEMORY_RANGE_PAGES * sizeof(struct state_run))
#define STATE_MEMORY_MAX_BYTES                                                                     \
	(STATE_TABLE_MAX_BYTES + (uint64_t)MEMORY_RANGE_PAGES * MEMORY_PAGE_BYTES)

struct state_head state_head_make(uint64_t index_offset, uint64_t frame_count,
				  uint64_t facts_bytes);

/* The HMAC of the three parts. 0, or -1 with ERROR set. */
int state_mac(const uint8_t key[STATE_KEY_BYTES], const struct state_head *head,
	      const struct state_frame *frames, const char *facts, uint8_t mac[STATE_MAC_BYTES],
	      struct error *error);

#endif
