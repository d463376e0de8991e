#include "host-tools/template.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host-tools/find_image.h"
#include "host-tools/lock.h"
#include "host-tools/message.h"
#include "host-tools/template_make.h"
#include "host-tools/vmm/qemu.h"
#include "imagebuilder/verify.h"

/* How long one that did not work is left alone. */
#define REJECTED_SECONDS  3600
/* How long to wait beyond the boot for another process that makes the same one. */
#define LOCK_WAIT_SECONDS 30
#define FACTS_MAX_BYTES	  4096

/* --- the key --- */

/* The name and the stepping of this processor: its time-stamp counter runs at one rate. */
static void add_processor(struct digest *digest)
{
	unsigned registers[4];

	for (unsigned leaf = 0x80000002; leaf <= 0x80000004; leaf++) {
		if (!__get_cpuid(leaf, &registers[0], &registers[1], &registers[2], &registers[3]))
			continue;
		digest_add(digest, registers, sizeof(registers));
	}
	if (__get_cpuid(1, &registers[0], &registers[1], &registers[2], &registers[3]))
		digest_add(digest, registers, sizeof(registers[0]));
}

void template_processor(char name[TEMPLATE_PROCESSOR_BYTES])
{
	unsigned words[13] = {0}, signature[4] = {0};

	for (unsigned leaf = 0; leaf < 3; leaf++)
		__get_cpuid(0x80000002 + leaf, &words[4 * leaf], &words[4 * leaf + 1],
			    &words[4 * leaf + 2], &words[4 * leaf + 3]);
	__get_cpuid(1, &signature[0], &signature[1], &signature[2], &signature[3]);
	snprintf(name, TEMPLATE_PROCESSOR_BYTES, "%s %x", (const char *)words, signature[0]);
}

/* QEMU's machine is what its program and its command line make it. */
static char *describe(const struct template_wish *wish)
{
	const struct qemu_options options = {
		.image = wish->image,
		.accel = wish->accel,
		.memory_bytes = wish->memory_bytes,
		.cpus = wish->cpus,
		.has_input_disk = wish->has_input_disk,
	};

	return qemu_describe(&options);
}

static void add_line(struct digest *digest, const char *line)
{
	digest_add(digest, line ? line : "none", strlen(line ? line : "none"));
	digest_add(digest, "\n", 1);
}

int template_key(const struct template_wish *wish, char key[DIGEST_HEX_BYTES], struct error *error)
{
	char program[PATH_MAX], memory[PATH_MAX], qemu_sha256[DIGEST_HEX_BYTES];

	find_memory(memory, sizeof(memory));
	if (qemu_find(program, sizeof(program), error) ||
	    verify_digest(program, memory, qemu_sha256, error))
		return -1;
	struct digest *digest = digest_new(error);
	if (!digest)
		return -1;
	char *arguments = describe(wish);
	add_line(digest, "jobvm template 1");
	add_line(digest, qemu_sha256);
	add_line(digest, wish->image->kernel_sha256);
	add_line(digest, wish->image->initrd_sha256);
	add_line(digest, wish->image->root_sha256);
	add_line(digest, arguments);
	add_processor(digest);
	free(arguments);
	return digest_finish_hex(digest, key, error);
}

/* --- places --- */

/* Whose templates are believed: ours, root's, and those of whoever made the image. */
static bool is_trusted(const struct stat *status, const struct image *image)
{
	struct stat owner;

	if (status->st_mode & (S_IWGRP | S_IWOTH))
		return false;
	if (status->st_uid == geteuid() || status->st_uid == 0)
		return true;
	return stat(image->root, &owner) == 0 && owner.st_uid == status->st_uid;
}

static int cache_place(char *path, size_t size)
{
	char cache[PATH_MAX];

	find_cache(cache, sizeof(cache));
	return !cache[0] || snprintf(path, size, "%s/templates", cache) >= (int)size ? -1 : 0;
}

static int image_place(const struct image *image, char *path, size_t size)
{
	size_t length = strlen(image->directory);

	while (length > 1 && image->directory[length - 1] == '/')
		length--;
	return snprintf(path, size, "%.*s.templates", (int)length, image->directory) >= (int)size
		       ? -1
		       : 0;
}

/* --- opening --- */

static int open_checked(int directory_fd, const char *name, const struct image *image,
			struct stat *status, struct error *error)
{
	int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return error_errno(error, "open the template's %s", name);
	if (fstat(fd, status) == 0 && S_ISREG(status->st_mode) && is_trusted(status, image))
		return fd;
	close(fd);
	return error_set(error, "the template's %s is not a file that only its owner can write",
			 name);
}

static int read_facts(int directory_fd, const char *key, const struct image *image,
		      struct template_facts *facts, struct error *error)
{
	char text[FACTS_MAX_BYTES + 1];
	struct stat status;
	int fd = open_checked(directory_fd, TEMPLATE_FACTS, image, &status, error);

	if (fd < 0)
		return -1;
	ssize_t length = read(fd, text, FACTS_MAX_BYTES);
	close(fd);
	if (length < 0)
		return error_errno(error, "read the template's " TEMPLATE_FACTS);
	text[length] = '\0';
	if (strlen(text) != (size_t)length ||
	    template_facts_parse(text, "the template's " TEMPLATE_FACTS, facts, error))
		return error_set(error, "the template's " TEMPLATE_FACTS " is damaged");
	if (strcmp(facts->key, key) != 0)
		return error_set(error, "the template is another one than its name says");
	return 0;
}

static int open_data(int directory_fd, const char *name, const struct image *image,
		     uint64_t size_bytes, digest_function *digest, const char *sha256,
		     struct error *error)
{
	char memory[PATH_MAX];
	struct stat status;
	int fd = open_checked(directory_fd, name, image, &status, error);

	if (fd < 0)
		return -1;
	find_memory(memory, sizeof(memory));
	int differs = (uint64_t)status.st_size != size_bytes;
	if (!differs)
		differs = verify_file(fd, name, digest, sha256, memory, error);
	if (differs > 0)
		error_set(error, "the template's %s is damaged", name);
	if (!differs)
		return fd;
	close(fd);
	return -1;
}

static int open_files(int directory_fd, const char *key, const struct image *image,
		      struct template *template, struct error *error)
{
	struct template_facts *facts = &template->facts;

	if (read_facts(directory_fd, key, image, facts, error))
		return -1;
	template->state_fd = open_data(directory_fd, TEMPLATE_STATE, image, facts->state_bytes,
				       digest_file_hex, facts->state_sha256, error);
	if (template->state_fd < 0)
		return -1;
	template->memory_fd = open_data(directory_fd, TEMPLATE_MEMORY, image, facts->memory_bytes,
					digest_sparse_file_hex, facts->memory_sha256, error);
	return template->memory_fd < 0 ? -1 : 0;
}

/* Whether KEY was rejected lately; then ERROR is set. */
static bool is_rejected(int place_fd, const char *key, struct error *error)
{
	char name[DIGEST_HEX_BYTES + sizeof(TEMPLATE_REJECTED)], reason[256] = "";
	struct stat status;

	snprintf(name, sizeof(name), "%s" TEMPLATE_REJECTED, key);
	int fd = openat(place_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return false;
	bool recent = fstat(fd, &status) == 0 && status.st_mtime <= time(NULL) &&
		      status.st_mtime + REJECTED_SECONDS > time(NULL);
	if (recent && read(fd, reason, sizeof(reason) - 1) >= 0)
		error_set(error, "its template did not work lately: %s", reason);
	close(fd);
	return recent;
}

/* 0; 1 when it was rejected; -1 when there is none that is whole. ERROR is set but for 0. */
static int open_in(int place_fd, const char *key, const struct image *image,
		   struct template *template, struct error *error)
{
	struct stat status;

	template->memory_fd = template->state_fd = -1;
	if (is_rejected(place_fd, key, error))
		return 1;
	int fd = openat(place_fd, key, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return error_errno(error, "open template %s", key);
	int failed = fstat(fd, &status) || !is_trusted(&status, image);
	if (failed)
		error_set(error, "the template's directory can be written by others");
	else
		failed = open_files(fd, key, image, template, error);
	if (failed)
		template_close(template);
	else
		futimens(fd, NULL); /* for who looks for the one that was not used for longest */
	close(fd);
	return failed ? -1 : 0;
}

static int open_at(const char *place, const char *key, const struct image *image,
		   struct template *template, struct error *error)
{
	int place_fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (place_fd < 0)
		return error_errno(error, "open %s", place);
	snprintf(template->place, sizeof(template->place), "%s", place);
	int result = open_in(place_fd, key, image, template, error);
	close(place_fd);
	return result;
}

void template_close(struct template *template)
{
	if (template->memory_fd >= 0)
		close(template->memory_fd);
	if (template->state_fd >= 0)
		close(template->state_fd);
	template->memory_fd = template->state_fd = -1;
}

/* --- one at a time --- */

static int make_place(const char *place, struct error *error)
{
	if (mkdir(place, 0755) && errno != EEXIST)
		return error_errno(error, "make directory %s", place);
	int fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(error, "open %s", place);
	return fd;
}

/* The caller holds the lock, so what is there now stays. */
static int open_or_make(int place_fd, const struct template_wish *wish, const char *key,
			struct template *template, struct error *error)
{
	char name[DIGEST_HEX_BYTES + sizeof(TEMPLATE_REJECTED)];
	int result = open_in(place_fd, key, wish->image, template, error);

	if (result >= 0)
		return result ? -1 : 0;
	snprintf(name, sizeof(name), "%s" TEMPLATE_REJECTED, key);
	unlinkat(place_fd, name, 0);
	result = template_make(place_fd, wish, key, error);
	if (result < 0)
		template_write_rejection(place_fd, key, error->text);
	if (result)
		return -1;
	template->made = true;
	return open_in(place_fd, key, wish->image, template, error) ? -1 : 0;
}

static int make_at(const char *place, const struct template_wish *wish, const char *key,
		   struct template *template, struct error *error)
{
	int place_fd = make_place(place, error);

	if (place_fd < 0)
		return -1;
	int lock_fd = openat(place_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int result = -1;
	if (lock_fd < 0) {
		error_errno(error, "lock %s", place);
	} else if (lock_wait(lock_fd,
			     (unsigned)(wish->boot_timeout_ms / 1000) + LOCK_WAIT_SECONDS)) {
		error_set(error, "%s: another process holds its lock", place);
	} else {
		snprintf(template->place, sizeof(template->place), "%s", place);
		result = open_or_make(place_fd, wish, key, template, error);
	}
	if (lock_fd >= 0)
		close(lock_fd);
	close(place_fd);
	return result;
}

static void forget_rejection(const char *place, const char *key)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s/%s" TEMPLATE_REJECTED, place, key) < PATH_MAX)
		unlink(name);
}

int template_open(const struct template_wish *wish, enum template_place place,
		  struct template *template, struct error *error)
{
	char key[DIGEST_HEX_BYTES], beside[PATH_MAX], cache[PATH_MAX];
	int result = -1;

	*template = (struct template){.memory_fd = -1, .state_fd = -1};
	if (template_key(wish, key, error))
		return -1;
	if (image_place(wish->image, beside, sizeof(beside)) || cache_place(cache, sizeof(cache)))
		return error_set(error, "there is no directory for templates");
	if (place == TEMPLATE_BESIDE_IMAGE) {
		forget_rejection(beside, key);
		forget_rejection(cache, key);
	}
	result = open_at(beside, key, wish->image, template, error);
	if (result < 0 && place == TEMPLATE_BESIDE_IMAGE)
		result = make_at(beside, wish, key, template, error);
	if (result < 0)
		result = open_at(cache, key, wish->image, template, error);
	if (result < 0)
		result = make_at(cache, wish, key, template, error);
	return result ? -1 : 0;
}

int template_find(const struct template_wish *wish, const char *key, const char *memory_sha256,
		  struct template *template, struct error *error)
{
	char places[2][PATH_MAX] = {"", ""};

	image_place(wish->image, places[0], sizeof(places[0]));
	cache_place(places[1], sizeof(places[1]));
	for (size_t i = 0; i < 2; i++) {
		if (open_at(places[i], key, wish->image, template, error))
			continue;
		if (strcmp(template->facts.memory_sha256, memory_sha256) == 0)
			return 0;
		template_close(template);
	}
	return error_set(error,
			 "the template %s that it is a clone of is not here (memory %.16s...): it "
			 "must be in %s or %s",
			 key, memory_sha256, places[0], places[1]);
}

void template_note_need(const struct template *template, const char *path)
{
	char name[sizeof(TEMPLATE_NEEDED) + DIGEST_HEX_BYTES], directory[2 * PATH_MAX];
	char full[PATH_MAX], sha256[DIGEST_HEX_BYTES];
	struct error ignored;

	if (!realpath(path, full) || digest_bytes(full, strlen(full), sha256, &ignored))
		return;
	snprintf(directory, sizeof(directory), "%s/%s", template->place, template->facts.key);
	snprintf(name, sizeof(name), TEMPLATE_NEEDED "%s", sha256);
	int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = directory_fd < 0
			 ? -1
			 : openat(directory_fd, name,
				  O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (directory_fd >= 0)
		close(directory_fd);
	if (fd < 0)
		return;
	/* A name that is cut off is that of no file, and counts for nothing. */
	if (write(fd, full, strlen(full)) < 0)
		message_warning("%s: cannot note that %s needs it", directory, full);
	close(fd);
}

void template_reject(const struct template *template, const char *reason)
{
	int place_fd = open(template->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (place_fd < 0)
		return;
	template_write_rejection(place_fd, template->facts.key, reason);
	close(place_fd);
}
