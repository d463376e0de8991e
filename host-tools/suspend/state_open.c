/* state_open: reads a state's file, of which nothing is believed before all of it was checked. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "fsimage/copy.h"
#include "host-tools/suspend/state_format.h"
#include "host-tools/suspend/workers.h"

struct state {
	int fd;
	struct state_head head;
	struct state_frame *frames;
	struct state_facts facts;
	struct record_buffer facts_buffer;
};

/* --- checking --- */

static int read_head(struct state *state, uint64_t size_bytes, struct error *error)
{
	struct state_head *head = &state->head;

	if (read_at(state->fd, head, sizeof(*head), 0) != (int64_t)sizeof(*head) ||
	    memcmp(head->magic, STATE_MAGIC " ", sizeof(STATE_MAGIC)) != 0)
		return error_set(error, "not the state of a suspended job");
	const struct state_head expected =
		state_head_make(head->index_offset, head->frame_count, head->facts_bytes);
	if (memcmp(head->magic, expected.magic, sizeof(head->magic)) != 0)
		return error_set(error, "a state of another version of jobvm");
	if (memcmp(head, &expected, sizeof(*head)) != 0 || head->frame_count > STATE_FRAMES_MAX ||
	    head->facts_bytes > RECORD_MAX_BYTES || head->index_offset > size_bytes ||
	    size_bytes - head->index_offset != head->frame_count * sizeof(struct state_frame) +
						       head->facts_bytes + STATE_MAC_BYTES)
		return error_set(error, "damaged: it has not the size that it says");
	return 0;
}

/* What becomes a part of a name, or is compared with a digest. */
static int check_facts(const struct state_facts *facts, struct error *error)
{
	static const char digits[] = "0123456789abcdef";
	const char *suffix = facts->disk_suffix ? facts->disk_suffix : "";

	if (strlen(suffix) > STATE_SUFFIX_DIGITS || strspn(suffix, digits) != strlen(suffix))
		return error_set(error,
				 "its facts: key 'disk_suffix': not up to %d hexadecimal digits",
				 STATE_SUFFIX_DIGITS);
	if (strlen(facts->disk_sha256) != 2 * DIGEST_BYTES ||
	    strspn(facts->disk_sha256, digits) != 2 * DIGEST_BYTES)
		return error_set(error, "its facts: key 'disk_sha256': not a SHA-256");
	return 0;
}

static int read_index(struct state *state, const uint8_t key[STATE_KEY_BYTES], struct error *error)
{
	const struct state_head *head = &state->head;
	uint8_t mac[STATE_MAC_BYTES], expected[STATE_MAC_BYTES];
	uint64_t index_bytes = head->frame_count * sizeof(struct state_frame);
	uint64_t facts_offset = head->index_offset + index_bytes;
	char *facts = state->facts_buffer.text;

	state->frames = calloc(head->frame_count + 1, sizeof(struct state_frame));
	if (!state->frames)
		return error_set(error, "out of memory");
	if (read_at(state->fd, state->frames, index_bytes, head->index_offset) !=
		    (int64_t)index_bytes ||
	    read_at(state->fd, facts, head->facts_bytes, facts_offset) !=
		    (int64_t)head->facts_bytes ||
	    read_at(state->fd, mac, sizeof(mac), facts_offset + head->facts_bytes) !=
		    (int64_t)sizeof(mac))
		return error_errno(error, "cannot be read");
	facts[head->facts_bytes] = '\0';
	if (state_mac(key, head, state->frames, facts, expected, error))
		return -1;
	if (CRYPTO_memcmp(mac, expected, sizeof(mac)) != 0)
		return error_set(error, "damaged, or made with another key (--state-key)");
	if (record_parse(&state_schema, "its facts", &state->facts_buffer, head->facts_bytes,
			 &state->facts, error))
		return -1;
	return check_facts(&state->facts, error);
}

static uint64_t most_bytes(const struct state_frame *frame)
{
	return frame->kind == STATE_MEMORY ? STATE_MEMORY_MAX_BYTES : STATE_OTHER_MAX_BYTES;
}

/* That frames of memory are of ranges, each of another one. */
static int check_ranges(const struct state *state, struct error *error)
{
	unsigned char *seen = calloc(STATE_FRAMES_MAX, 1);
	bool makes_sense = true;

	if (!seen)
		return error_set(error, "out of memory");
	for (uint64_t i = 0; i < state->head.frame_count && makes_sense; i++) {
		const struct state_frame *frame = &state->frames[i];
		uint64_t range = frame->first_page / MEMORY_RANGE_PAGES;
		makes_sense =
			frame->first_page % MEMORY_RANGE_PAGES == 0 && range < STATE_FRAMES_MAX;
		if (makes_sense && frame->kind == STATE_MEMORY)
			makes_sense = !seen[range]++;
	}
	free(seen);
	return makes_sense ? 0 : error_set(error, "damaged: its index makes no sense");
}

/* One after the other, and nothing between them. */
static int check_index(const struct state *state, struct error *error)
{
	uint64_t counts[STATE_KINDS] = {0}, end = STATE_HEAD_BYTES;

	for (uint64_t i = 0; i < state->head.frame_count; i++) {
		const struct state_frame *frame = &state->frames[i];
		if (frame->kind >= STATE_KINDS || frame->offset != end ||
		    frame->raw_bytes > most_bytes(frame) ||
		    frame->stored_bytes > frame->raw_bytes ||
		    frame->is_packed != (frame->stored_bytes < frame->raw_bytes))
			return error_set(error, "damaged: its index makes no sense");
		end += frame->stored_bytes;
		counts[frame->kind]++;
	}
	if (end != state->head.index_offset || counts[STATE_DEVICE] != 1 ||
	    counts[STATE_NOTES] != 1)
		return error_set(error, "damaged: its index is not whole");
	return check_ranges(state, error);
}

/* What is stored, as it was when it was saved: into BYTES. */
static int read_frame(const struct state *state, const struct state_frame *frame, void *bytes,
		      struct error *error)
{
	uint8_t sha256[DIGEST_BYTES];
	struct digest *digest = digest_new(error);

	if (!digest)
		return -1;
	int64_t got = read_at(state->fd, bytes, frame->stored_bytes, frame->offset);
	digest_add(digest, bytes, got < 0 ? 0 : (size_t)got);
	if (digest_finish(digest, sha256, error))
		return -1;
	if (got != (int64_t)frame->stored_bytes ||
	    memcmp(sha256, frame->sha256, sizeof(sha256)) != 0)
		return error_set(error, "damaged at byte %llu", (unsigned long long)frame->offset);
	return 0;
}

/* Only in frames of memory is every frame small enough for a worker. */
static int check_frame(void *context, uint64_t item, void *scratch, struct error *error)
{
	const struct state *state = context;
	const struct state_frame *frame = &state->frames[item];
	void *own = NULL;

	if (frame->stored_bytes > STATE_MEMORY_MAX_BYTES)
		own = malloc(frame->stored_bytes);
	if (frame->stored_bytes > STATE_MEMORY_MAX_BYTES && !own)
		return error_set(error, "out of memory");
	int failed = read_frame(state, frame, own ? own : scratch, error);
	free(own);
	return failed;
}

static int check(struct state *state, const uint8_t key[STATE_KEY_BYTES], struct error *error)
{
	struct stat status;

	if (fstat(state->fd, &status) || !S_ISREG(status.st_mode))
		return error_set(error, "not a regular file");
	if (read_head(state, (uint64_t)status.st_size, error) || read_index(state, key, error) ||
	    check_index(state, error))
		return -1;
	return workers_run(state->head.frame_count, check_frame, state, STATE_MEMORY_MAX_BYTES,
			   error);
}

int state_open(int fd, const uint8_t key[STATE_KEY_BYTES], struct state **opened,
	       struct error *error)
{
	struct state *state = calloc(1, sizeof(*state));

	*opened = NULL;
	if (!state)
		return error_set(error, "out of memory");
	state->fd = dup(fd);
	int failed =
		state->fd < 0 ? error_errno(error, "cannot be opened") : check(state, key, error);
	if (failed)
		state_close(state);
	else
		*opened = state;
	return failed ? -1 : 0;
}

void state_close(struct state *state)
{
	if (!state)
		return;
	if (state->fd >= 0)
		close(state->fd);
	free(state->frames);
	free(state);
}

const struct state_facts *state_facts(const struct state *state)
{
	return &state->facts;
}

/* --- reading --- */

/* FRAME's content: into RAW; STORED is room for what is in the file. */
static int unpack(const struct state *state, const struct state_frame *frame, void *stored,
		  void *raw, struct error *error)
{
	if (!frame->is_packed)
		return read_frame(state, frame, raw, error);
	if (read_frame(state, frame, stored, error))
		return -1;
	size_t length = ZSTD_decompress(raw, frame->raw_bytes, stored, frame->stored_bytes);
	if (ZSTD_isError(length) || length != frame->raw_bytes)
		return error_set(error, "damaged at byte %llu: %s",
				 (unsigned long long)frame->offset, ZSTD_getErrorName(length));
	return 0;
}

/* The only frame of KIND, with a final NUL, to be freed. */
static char *unpack_other(const struct state *state, enum state_frame_kind kind, uint64_t *size,
			  struct error *error)
{
	const struct state_frame *frame = state->frames;

	while (frame->kind != (uint32_t)kind)
		frame++;
	char *stored = malloc(frame->stored_bytes + 1), *raw = malloc(frame->raw_bytes + 1);
	int failed = !stored || !raw ? error_set(error, "out of memory")
				     : unpack(state, frame, stored, raw, error);
	free(stored);
	if (failed) {
		free(raw);
		return NULL;
	}
	raw[frame->raw_bytes] = '\0';
	*size = frame->raw_bytes;
	return raw;
}

char *state_notes(const struct state *state, struct error *error)
{
	uint64_t size;

	return unpack_other(state, STATE_NOTES, &size, error);
}

int state_device(const struct state *state, int fd, struct error *error)
{
	uint64_t size;
	char *bytes = unpack_other(state, STATE_DEVICE, &size, error);

	if (!bytes)
		return -1;
	int failed = write_at(fd, bytes, size, 0) ? error_errno(error, "write QEMU's state") : 0;
	free(bytes);
	return failed;
}

struct restoring {
	const struct state *state;
	const struct vm_memory *memory;
};

struct workspace {
	unsigned char stored[STATE_MEMORY_MAX_BYTES], raw[STATE_MEMORY_MAX_BYTES];
};

/* Not const: as such they would be in the program's file. */
static unsigned char zeros[MEMORY_RANGE_PAGES * MEMORY_PAGE_BYTES];

/* Writes the runs of RAW; whether they make sense, and take all of it. */
static int write_runs(const struct vm_memory *memory, const struct state_frame *frame,
		      const unsigned char *raw, struct error *error)
{
	struct state_run run;
	uint16_t count = 0;
	uint64_t table_bytes = sizeof(count);

	if (frame->raw_bytes >= sizeof(count))
		memcpy(&count, raw, sizeof(count));
	table_bytes += count * sizeof(run);
	uint64_t at = table_bytes;
	for (uint16_t i = 0; i < count && at <= frame->raw_bytes; i++) {
		memcpy(&run, raw + sizeof(count) + i * sizeof(run), sizeof(run));
		uint64_t bytes = (uint64_t)run.count * MEMORY_PAGE_BYTES;
		bool is_data = run.kind == MEMORY_DATA;
		if ((!is_data && run.kind != MEMORY_ZERO) ||
		    run.first + run.count > MEMORY_RANGE_PAGES ||
		    (is_data && bytes > frame->raw_bytes - at))
			return error_set(error, "damaged: a run of pages makes no sense");
		if (vm_memory_write(memory, (frame->first_page + run.first) * MEMORY_PAGE_BYTES,
				    is_data ? raw + at : zeros, bytes))
			return error_errno(error, "write the VM's memory");
		at += is_data ? bytes : 0;
	}
	return at == frame->raw_bytes ? 0 : error_set(error, "damaged: a frame is not whole");
}

static int restore_frame(void *context, uint64_t item, void *scratch, struct error *error)
{
	const struct restoring *restoring = context;
	const struct state_frame *frame = &restoring->state->frames[item];
	struct workspace *space = scratch;

	if (frame->kind != STATE_MEMORY)
		return 0;
	if (unpack(restoring->state, frame, space->stored, space->raw, error))
		return -1;
	return write_runs(restoring->memory, frame, space->raw, error);
}

int state_restore_memory(const struct state *state, const struct vm_memory *memory,
			 struct error *error)
{
	struct restoring restoring = {.state = state, .memory = memory};

	return workers_run(state->head.frame_count, restore_frame, &restoring,
			   sizeof(struct workspace), error);
}
