#include "tests/unit/scratch.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "fsimage/copy.h"
#include "host-tools/suspend/disk_digest.h"
#include "host-tools/suspend/state_format.h"

#define PAGE	     MEMORY_PAGE_BYTES
#define PAGES	     (2 * MEMORY_RANGE_PAGES + 3) /* the last range is short */
#define MEMORY_BYTES ((uint64_t)PAGES * PAGE)
#define LENGTH(list) (sizeof(list) / sizeof((list)[0]))

static const uint8_t key[STATE_KEY_BYTES] = "a key", other_key[STATE_KEY_BYTES] = "another key";

/* --- a process that stands for QEMU --- */

struct guest {
	pid_t pid;
	int ends_fd; /* it ends when this is closed */
	int mapped_fd;
	struct vm_memory memory;
};

typedef void dirty(volatile unsigned char *memory);

static void dirty_nothing(volatile unsigned char *memory)
{
	(void)memory;
}

static void fill(volatile unsigned char *memory, size_t page, unsigned value)
{
	for (size_t i = 0; i < PAGE; i++)
		memory[page * PAGE + i] = (unsigned char)(value ? value * 31 + i % 251 : 0);
}

static void dirty_some(volatile unsigned char *memory)
{
	memory[7 * PAGE + 1];			     /* only read */
	memory[3 * PAGE + 1] = memory[3 * PAGE + 1]; /* its own, and as in the base */
	fill(memory, 5, 0);			     /* zeros where the base has data */
	fill(memory, 1, 77);			     /* other data */
	fill(memory, MEMORY_RANGE_PAGES + 100, 78);  /* data where the base has none */
	fill(memory, PAGES - 1, 79);
}

/* The first pages and one in the second range have data, and holes are between them. */
static int make_base(void)
{
	unsigned char page[PAGE];
	int fd = open("base", O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)MEMORY_BYTES), 0);
	for (unsigned i = 0; i < 16; i++) {
		fill(page, 0, i + 1);
		assert_int_equal(write_at(fd, page, PAGE, (uint64_t)i * PAGE), 0);
	}
	assert_int_equal(write_at(fd, page, PAGE, (MEMORY_RANGE_PAGES + 500ULL) * PAGE), 0);
	return fd;
}

/* All guests of a test are started before the memory of one is opened: they inherit mappings. */
static struct guest start_guest(int mapped_fd, dirty *change)
{
	struct guest guest = {.mapped_fd = mapped_fd};
	int ends[2], ready[2];
	char byte = 0;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	guest.pid = fork();
	assert_true(guest.pid >= 0);
	if (guest.pid == 0) {
		unsigned char *memory =
			mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped_fd, 0);
		close(ends[1]);
		if (memory == MAP_FAILED)
			_exit(1);
		change(memory);
		/* What was advised for a part is a mapping of its own. */
		madvise(memory + 64 * PAGE, 64 * PAGE, MADV_DONTDUMP);
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		_exit(read(ends[0], &byte, 1) != 0);
	}
	close(ends[0]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	guest.ends_fd = ends[1];
	return guest;
}

static void open_guest(struct guest *guest, int base_fd)
{
	struct error error = {""};

	if (vm_memory_open(&guest->memory, guest->pid, guest->mapped_fd, base_fd, MEMORY_BYTES,
			   &error))
		fail_msg("%s", error.text);
}

static void end_guest(struct guest *guest)
{
	vm_memory_close(&guest->memory);
	close(guest->ends_fd);
	/* Later guests have the other end too. */
	kill(guest->pid, SIGKILL);
	assert_int_equal(waitpid(guest->pid, NULL, 0), guest->pid);
}

static unsigned char *content(const struct guest *guest)
{
	unsigned char *bytes = malloc(MEMORY_BYTES);

	assert_non_null(bytes);
	assert_int_equal(read_at(guest->memory.mem_fd, bytes, MEMORY_BYTES, guest->memory.address),
			 MEMORY_BYTES);
	return bytes;
}

static void assert_same_content(const struct guest *a, const struct guest *b)
{
	unsigned char *of_a = content(a), *of_b = content(b);

	assert_memory_equal(of_a, of_b, MEMORY_BYTES);
	free(of_a);
	free(of_b);
}

/* --- states --- */

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct state_facts some_facts = {
	.version = STATE_VERSION,
	.job_id = "1b4e28ba-2fa1-4d11-883f-b9a761bde3fb",
	.manifest_sha256 = HEX,
	.qemu_sha256 = HEX,
	.machine_sha256 = HEX,
	.kernel_sha256 = HEX,
	.root_sha256 = HEX,
	.processor = "A processor, 100% of it",
	.accel = "tcg",
	.memory_bytes = MEMORY_BYTES,
	.cpus = 2,
	.disk_sha256 = HEX,
	.disk_suffix = "0123456789abcdef",
	.ran_ms = 12345,
	.suspensions = 3,
	.suspended_at = 1700000000,
};

static int new_file(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static int save(const struct guest *guest, bool whole, struct state_sizes *sizes)
{
	int fd = new_file("state"), device_fd = new_file("device");
	struct error error = {""};
	const struct state_source source = {.memory = &guest->memory,
					    .whole = whole,
					    .device_fd = device_fd,
					    .notes = "some notes"};

	assert_int_equal(write_at(device_fd, "QEMU's state", 12, 0), 0);
	if (state_save(fd, &some_facts, &source, key, sizes, &error))
		fail_msg("%s", error.text);
	close(device_fd);
	return fd;
}

static struct state *open_good(int fd)
{
	struct error error = {""};
	struct state *state;

	if (state_open(fd, key, &state, &error))
		fail_msg("%s", error.text);
	return state;
}

/* Whether it is refused, with a sentence that has WORD. */
static void assert_refused(int fd, const uint8_t *with_key, const char *word)
{
	struct error error = {""};
	struct state *state;

	assert_int_equal(state_open(fd, with_key, &state, &error), -1);
	assert_null(state);
	if (!strstr(error.text, word))
		fail_msg("'%s' is not in: %s", word, error.text);
}

static void restore(int fd, const struct guest *guest)
{
	struct state *state = open_good(fd);
	struct error error = {""};

	if (state_restore_memory(state, &guest->memory, &error))
		fail_msg("%s", error.text);
	state_close(state);
}

static void a_clone_is_saved_and_restored(void **unused)
{
	int base_fd = make_base();
	struct guest saved = start_guest(base_fd, dirty_some);
	struct guest fresh = start_guest(base_fd, dirty_nothing);
	struct state_sizes sizes;

	(void)unused;
	open_guest(&saved, base_fd);
	open_guest(&fresh, base_fd);
	int fd = save(&saved, false, &sizes);
	/* One of the five is as it was, one is zeros. */
	assert_int_equal(sizes.pages_changed, 5);
	assert_int_equal(sizes.pages_stored, 3);
	struct stat status;
	assert_int_equal(fstat(fd, &status), 0);
	assert_int_equal(status.st_size, sizes.stored_bytes);
	restore(fd, &fresh);
	assert_same_content(&saved, &fresh);
	end_guest(&saved);
	end_guest(&fresh);
	close(fd);
	close(base_fd);
}

static void a_booted_vm_is_saved_and_restored(void **unused)
{
	int zero_fd = open("/dev/zero", O_RDWR);
	struct guest saved = start_guest(zero_fd, dirty_some);
	struct guest fresh = start_guest(zero_fd, dirty_nothing);
	struct state_sizes sizes;

	(void)unused;
	open_guest(&saved, -1);
	open_guest(&fresh, -1);
	int fd = save(&saved, false, &sizes);
	assert_int_equal(sizes.pages_stored, 3);
	restore(fd, &fresh);
	assert_same_content(&saved, &fresh);
	end_guest(&saved);
	end_guest(&fresh);
	close(fd);
	close(zero_fd);
}

static void a_whole_state_needs_no_base(void **unused)
{
	int base_fd = make_base(), zero_fd = open("/dev/zero", O_RDWR);
	struct guest saved = start_guest(base_fd, dirty_some);
	struct guest fresh = start_guest(zero_fd, dirty_nothing);
	struct state_sizes sizes;

	(void)unused;
	open_guest(&saved, base_fd);
	open_guest(&fresh, -1);
	int fd = save(&saved, true, &sizes);
	/* 17 of the base, less the one that is zeros, and two where it has none. */
	assert_int_equal(sizes.pages_stored, 18);
	restore(fd, &fresh);
	assert_same_content(&saved, &fresh);
	end_guest(&saved);
	end_guest(&fresh);
	close(fd);
	close(base_fd);
	close(zero_fd);
}

static void memory_that_is_not_there_is_not_found(void **unused)
{
	int base_fd = make_base(), zero_fd = open("/dev/zero", O_RDWR);
	struct guest guest = start_guest(base_fd, dirty_nothing);
	struct error error = {""};

	(void)unused;
	assert_int_equal(
		vm_memory_open(&guest.memory, guest.pid, zero_fd, -1, MEMORY_BYTES, &error), -1);
	assert_int_equal(vm_memory_open(&guest.memory, guest.pid, base_fd, base_fd,
					MEMORY_BYTES + PAGE, &error),
			 -1);
	assert_int_equal(vm_memory_open(&guest.memory, guest.pid, base_fd, base_fd,
					MEMORY_BYTES - 4 * PAGE, &error),
			 -1);
	open_guest(&guest, base_fd);
	end_guest(&guest);
	close(base_fd);
	close(zero_fd);
}

/* A state of a small guest. */
static int save_some(void)
{
	int zero_fd = open("/dev/zero", O_RDWR);
	struct guest guest = start_guest(zero_fd, dirty_some);
	struct state_sizes sizes;

	open_guest(&guest, -1);
	int fd = save(&guest, false, &sizes);
	end_guest(&guest);
	close(zero_fd);
	return fd;
}

static void what_was_saved_beside_memory_is_there(void **unused)
{
	int fd = save_some(), device_fd = new_file("device-again");
	struct state *state = open_good(fd);
	const struct state_facts *facts = state_facts(state);
	struct error error = {""};
	size_t size;

	(void)unused;
	assert_string_equal(facts->job_id, some_facts.job_id);
	assert_string_equal(facts->processor, some_facts.processor);
	assert_string_equal(facts->disk_suffix, some_facts.disk_suffix);
	assert_null(facts->template_key);
	assert_int_equal(facts->ran_ms, some_facts.ran_ms);
	char *notes = state_notes(state, &error);
	assert_string_equal(notes, "some notes");
	free(notes);
	assert_int_equal(state_device(state, device_fd, &error), 0);
	char *device = scratch_read("device-again", &size);
	assert_int_equal(size, 12);
	assert_memory_equal(device, "QEMU's state", 12);
	free(device);
	state_close(state);
	close(device_fd);
	close(fd);
}

static void no_damage_is_taken(void **unused)
{
	int fd = save_some();
	struct stat status;

	(void)unused;
	assert_int_equal(fstat(fd, &status), 0);
	uint64_t size = (uint64_t)status.st_size;
	for (unsigned i = 0; i < 500; i++) {
		/* All of the head, and places everywhere. */
		uint64_t at = i < STATE_HEAD_BYTES ? i : i * 7919ULL * 104729 % size;
		unsigned char byte;
		assert_int_equal(read_at(fd, &byte, 1, at), 1);
		byte ^= (unsigned char)(1U << i % 8);
		assert_int_equal(write_at(fd, &byte, 1, at), 0);
		assert_refused(fd, key, "");
		byte ^= (unsigned char)(1U << i % 8);
		assert_int_equal(write_at(fd, &byte, 1, at), 0);
	}
	char *bytes = scratch_read("state", NULL);
	for (uint64_t i = 0; i < 100; i++) {
		assert_int_equal(ftruncate(fd, (off_t)(i < 50 ? size - 1 - i : i * size / 100)), 0);
		assert_refused(fd, key, "");
		assert_int_equal(write_at(fd, bytes, size, 0), 0);
	}
	assert_int_equal(ftruncate(fd, (off_t)size + 1), 0);
	assert_refused(fd, key, "damaged");
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	state_close(open_good(fd));
	free(bytes);
	close(fd);
}

static void a_state_says_what_does_not_fit(void **unused)
{
	int fd = save_some();

	(void)unused;
	assert_refused(fd, other_key, "another key");
	assert_int_equal(write_at(fd, "2", 1, sizeof(STATE_MAGIC)), 0);
	assert_refused(fd, key, "another version");
	assert_int_equal(write_at(fd, "x", 1, 0), 0);
	assert_refused(fd, key, "not the state");
	close(fd);
}

/* --- states that were authenticated, and make no sense --- */

struct forged {
	struct state_head head;
	uint16_t run_count;
	struct state_run runs[2];
	unsigned char pages[2 * PAGE];
} __attribute__((packed));

struct forgery {
	struct state_frame frames[4];
	size_t frame_count;
	uint16_t run_count;
	struct state_run runs[2];
	struct state_facts facts;
};

#define MEMORY_FRAME_BYTES (sizeof(struct forged) - sizeof(struct state_head))

/* A device of one byte, notes of none, two runs of a page each. */
static struct forgery good_forgery(void)
{
	struct forgery forgery = {
		.frames = {{.kind = STATE_MEMORY, .raw_bytes = MEMORY_FRAME_BYTES},
			   {.kind = STATE_DEVICE, .raw_bytes = 1},
			   {.kind = STATE_NOTES}},
		.frame_count = 3,
		.run_count = 2,
		.runs = {{0, 1, MEMORY_DATA}, {5, 1, MEMORY_DATA}},
		.facts = some_facts,
	};

	return forgery;
}

static void digest_of(const void *bytes, size_t size, uint8_t value[DIGEST_BYTES])
{
	struct error error;
	struct digest *digest = digest_new(&error);

	digest_add(digest, bytes, size);
	assert_int_equal(digest_finish(digest, value, &error), 0);
}

/* Writes it, whatever it says, with digests that are right. */
static int write_forgery(struct forgery *forgery)
{
	static char facts[RECORD_MAX_BYTES + 1];
	unsigned char bytes[MEMORY_FRAME_BYTES] = {0};
	uint64_t end = STATE_HEAD_BYTES;
	uint8_t mac[STATE_MAC_BYTES];
	struct error error;
	int fd = new_file("forged");

	memcpy(bytes, &forgery->run_count, sizeof(forgery->run_count));
	memcpy(bytes + sizeof(forgery->run_count), forgery->runs, sizeof(forgery->runs));
	for (size_t i = 0; i < forgery->frame_count; i++) {
		struct state_frame *frame = &forgery->frames[i];
		frame->offset += end;
		frame->stored_bytes = frame->raw_bytes;
		digest_of(bytes, frame->stored_bytes, frame->sha256);
		assert_int_equal(write_at(fd, bytes, frame->stored_bytes, end), 0);
		end += frame->stored_bytes;
	}
	long length = record_format(&state_schema, &forgery->facts, facts, &error);
	assert_true(length > 0);
	const struct state_head head = state_head_make(end, forgery->frame_count, (uint64_t)length);
	uint64_t index_bytes = forgery->frame_count * sizeof(struct state_frame);
	assert_int_equal(state_mac(key, &head, forgery->frames, facts, mac, &error), 0);
	assert_int_equal(write_at(fd, &head, sizeof(head), 0), 0);
	assert_int_equal(write_at(fd, forgery->frames, index_bytes, end), 0);
	assert_int_equal(write_at(fd, facts, (size_t)length, end + index_bytes), 0);
	assert_int_equal(write_at(fd, mac, sizeof(mac), end + index_bytes + (uint64_t)length), 0);
	return fd;
}

static void assert_forgery_refused(struct forgery forgery)
{
	int fd = write_forgery(&forgery);

	assert_refused(fd, key, "");
	close(fd);
}

static void an_index_without_sense_is_refused(void **unused)
{
	struct forgery forgery = good_forgery();
	int fd = write_forgery(&forgery);

	(void)unused;
	state_close(open_good(fd));
	close(fd);

#define WITH(change)                                                                               \
	do {                                                                                       \
		forgery = good_forgery();                                                          \
		change;                                                                            \
		assert_forgery_refused(forgery);                                                   \
	} while (0)
	WITH(forgery.frame_count = 2);
	WITH(forgery.frames[2].kind = STATE_DEVICE);
	WITH(forgery.frames[2].kind = STATE_KINDS);
	WITH(forgery.frames[1].offset = 1);
	WITH(forgery.frames[1].is_packed = 1);
	/* Not where a range begins, so far that it comes round, twice. */
	WITH(forgery.frames[0].first_page = 1);
	WITH(forgery.frames[0].first_page = UINT64_MAX / PAGE + 1);
	WITH(forgery.frames[3] = forgery.frames[0]; forgery.frame_count = 4);
	/* The suffix becomes a part of a name. */
	WITH(forgery.facts.disk_suffix = "/../../../etc/pass");
	WITH(forgery.facts.disk_suffix = "0123456789abcdef0");
	WITH(forgery.facts.disk_sha256 = "short");
#undef WITH
}

static void assert_not_restored(struct forgery forgery, const struct guest *guest)
{
	int fd = write_forgery(&forgery);
	struct state *state = open_good(fd);
	struct error error = {""};

	assert_int_equal(state_restore_memory(state, &guest->memory, &error), -1);
	assert_string_not_equal(error.text, "");
	state_close(state);
	close(fd);
}

static void runs_without_sense_are_not_restored(void **unused)
{
	int zero_fd = open("/dev/zero", O_RDWR);
	struct guest guest = start_guest(zero_fd, dirty_nothing);
	struct forgery forgery = good_forgery();

	(void)unused;
	open_guest(&guest, -1);
	int fd = write_forgery(&forgery);
	restore(fd, &guest);
	close(fd);

#define WITH(change)                                                                               \
	do {                                                                                       \
		forgery = good_forgery();                                                          \
		change;                                                                            \
		assert_not_restored(forgery, &guest);                                              \
	} while (0)
	WITH(forgery.runs[1].kind = MEMORY_DATA + 1);
	WITH(forgery.runs[1].kind = MEMORY_SAME; forgery.runs[0].count = 2);
	WITH(forgery.runs[1].first = MEMORY_RANGE_PAGES);
	WITH(forgery.runs[1].first = UINT16_MAX);
	WITH(forgery.runs[1].count = 2);
	WITH(forgery.runs[1].kind = MEMORY_ZERO);
	WITH(forgery.run_count = 1);
	WITH(forgery.run_count = UINT16_MAX);
	/* Behind the memory's last page: in its last range, and in another. */
	WITH(forgery.frames[0].first_page = 3 * MEMORY_RANGE_PAGES);
	WITH(forgery.frames[0].first_page = 2 * MEMORY_RANGE_PAGES);
#undef WITH
	end_guest(&guest);
	close(zero_fd);
}

/* --- the key --- */

static void enter_home(void)
{
	char home[256];

	unsetenv("XDG_DATA_HOME");
	assert_non_null(getcwd(home, sizeof(home)));
	setenv("HOME", home, 1);
}

#define OWN_KEY ".local/share/jobvm/state.key"

static void many_make_one_key(void **unused)
{
	uint8_t keys[8][STATE_KEY_BYTES];
	struct error error = {""};
	struct stat status;
	pid_t makers[LENGTH(keys)];
	int pipes[LENGTH(keys)][2], start[2];

	(void)unused;
	enter_home();
	assert_int_equal(pipe(start), 0);
	for (size_t i = 0; i < LENGTH(keys); i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		makers[i] = fork();
		if (makers[i] == 0) {
			close(start[1]);
			if (read(start[0], keys[i], 1) || state_key_read(NULL, keys[i], &error))
				_exit(1);
			_exit(write(pipes[i][1], keys[i], STATE_KEY_BYTES) != STATE_KEY_BYTES);
		}
		close(pipes[i][1]);
	}
	close(start[0]);
	close(start[1]);
	for (size_t i = 0; i < LENGTH(keys); i++) {
		assert_int_equal(read(pipes[i][0], keys[i], STATE_KEY_BYTES), STATE_KEY_BYTES);
		assert_memory_equal(keys[i], keys[0], STATE_KEY_BYTES);
		close(pipes[i][0]);
		assert_int_equal(waitpid(makers[i], NULL, 0), makers[i]);
	}
	assert_int_equal(stat(OWN_KEY, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
}

/* Of a process that was killed, and had our number. */
static void a_key_is_made_in_spite_of_remains(void **unused)
{
	uint8_t made[STATE_KEY_BYTES], again[STATE_KEY_BYTES];
	struct error error = {""};
	char name[128];

	(void)unused;
	enter_home();
	snprintf(name, sizeof(name), OWN_KEY ".%d", (int)getpid());
	scratch_write_text("./.local/share/jobvm/x", "");
	scratch_write_text(name, "");
	assert_int_equal(state_key_read(NULL, made, &error), 0);
	assert_int_equal(state_key_read(NULL, again, &error), 0);
	assert_memory_equal(made, again, STATE_KEY_BYTES);
}

static void only_a_secret_is_a_key(void **unused)
{
	uint8_t read_key[STATE_KEY_BYTES];
	struct error error = {""};

	(void)unused;
	assert_int_equal(state_key_read("none", read_key, &error), -1);
	assert_non_null(strstr(error.text, "not there"));
	scratch_write_text("key", HEX "\n");
	for (mode_t mode = 0; mode < 0100; mode++) {
		assert_int_equal(chmod("key", 0600 | mode), 0);
		assert_int_equal(state_key_read("key", read_key, &error), mode ? -1 : 0);
	}
	assert_non_null(strstr(error.text, "chmod 600"));
	assert_int_equal(read_key[0], 0x01);
	assert_int_equal(read_key[31], 0xef);
	static const char *const bad[] = {HEX, HEX "0\n", HEX "\n\n", "\n", "", "g" HEX};
	assert_int_equal(chmod("key", 0600), 0);
	for (size_t i = 0; i < LENGTH(bad); i++) {
		scratch_write_text("key", bad[i]);
		assert_int_equal(state_key_read("key", read_key, &error), -1);
	}
}

/* --- a disk's digest --- */

#define MIB (1ULL << 20)

static void digest_disk(uint64_t size, uint64_t at, const char *text, uint64_t zeros_at,
			char hex[DIGEST_HEX_BYTES])
{
	static const char zeros[65536];
	int fd = new_file("disk");
	struct error error;

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(write_at(fd, text, strlen(text), at), 0);
	assert_int_equal(write_at(fd, zeros, sizeof(zeros), zeros_at), 0);
	assert_int_equal(disk_digest_hex(fd, "disk", hex, &error), 0);
	close(fd);
}

static void a_disk_is_its_content(void **unused)
{
	char digest[DIGEST_HEX_BYTES], other[DIGEST_HEX_BYTES];

	(void)unused;
	digest_disk(50 * MIB + 7, 3 * MIB + 5, "x", 20 * MIB, digest);
	/* Other holes; zeros beside data; then another size, place, byte. */
	digest_disk(50 * MIB + 7, 3 * MIB + 5, "x", 50 * MIB - 65536, other);
	assert_string_equal(digest, other);
	digest_disk(50 * MIB + 7, 3 * MIB + 5, "x", 3 * MIB + 65536, other);
	assert_string_equal(digest, other);
	digest_disk(50 * MIB + 8, 3 * MIB + 5, "x", 20 * MIB, other);
	assert_string_not_equal(digest, other);
	digest_disk(50 * MIB + 7, 4 * MIB + 5, "x", 20 * MIB, other);
	assert_string_not_equal(digest, other);
	digest_disk(50 * MIB + 7, 3 * MIB + 6, "x", 20 * MIB, other);
	assert_string_not_equal(digest, other);
	digest_disk(50 * MIB + 7, 3 * MIB + 5, "y", 20 * MIB, other);
	assert_string_not_equal(digest, other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(a_clone_is_saved_and_restored),
		IN_SCRATCH(a_booted_vm_is_saved_and_restored),
		IN_SCRATCH(a_whole_state_needs_no_base),
		IN_SCRATCH(memory_that_is_not_there_is_not_found),
		IN_SCRATCH(what_was_saved_beside_memory_is_there),
		IN_SCRATCH(no_damage_is_taken),
		IN_SCRATCH(a_state_says_what_does_not_fit),
		IN_SCRATCH(an_index_without_sense_is_refused),
		IN_SCRATCH(runs_without_sense_are_not_restored),
		IN_SCRATCH(many_make_one_key),
		IN_SCRATCH(a_key_is_made_in_spite_of_remains),
		IN_SCRATCH(only_a_secret_is_a_key),
		IN_SCRATCH(a_disk_is_its_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
