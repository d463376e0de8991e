#include "host-tools/template_make.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "host-tools/message.h"
#include "host-tools/vmm/machine.h"
#include "host-tools/vmm/tsc.h"
#include "host-tools/vmm/vm.h"
#include "imagebuilder/files.h"
#include "imagebuilder/verify.h"

/* A clone gets its disk by its size: one that is empty the guest would not be told of. */
#define PLACEHOLDER_BYTES 512
/* The devices' state has less than 1 MB. */
#define STATE_MAX_BYTES	  (64ULL << 20)
/* What a guest's boot touches of its memory, at the most. */
#define TOUCHED_BYTES	  (256ULL << 20)
/* Each has the memory that a boot touches: 20 to 100 MB. */
#define TEMPLATES_MAX	  16

/* --- removing --- */

/* Whether the state that the note NAME names is still there. */
static bool is_needed_by(int directory_fd, const char *name)
{
	char path[PATH_MAX];
	int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return false;
	ssize_t length = read(fd, path, sizeof(path) - 1);
	close(fd);
	path[length < 0 ? 0 : length] = '\0';
	return access(path, F_OK) == 0;
}

/*
 * Removes what notes suspended jobs that are no more, or with ALL every note. Whether there are
 * others: jobs that go on as clones of this template. FD is closed.
 */
static bool tidy_notes(int fd, bool all)
{
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	bool needed = false;

	if (!directory)
		return false;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		if (strncmp(entry->d_name, TEMPLATE_NEEDED, strlen(TEMPLATE_NEEDED)) != 0)
			continue;
		if (!all && is_needed_by(fd, entry->d_name))
			needed = true;
		else
			unlinkat(fd, entry->d_name, 0);
	}
	closedir(directory);
	return needed;
}

static bool is_needed(int place_fd, const char *name)
{
	return tidy_notes(openat(place_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW),
			  false);
}

/* A template's directory, or what there is of it. */
static void remove_template(int place_fd, const char *name)
{
	static const char *const files[] = {TEMPLATE_FACTS, TEMPLATE_MEMORY, TEMPLATE_STATE};
	int fd = openat(place_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd >= 0) {
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
			unlinkat(fd, files[i], 0);
		tidy_notes(fd, true);
	}
	unlinkat(place_fd, name, AT_REMOVEDIR);
}

static bool ends_with(const char *name, const char *end)
{
	size_t length = strlen(name), end_length = strlen(end);

	return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

static bool is_template(int place_fd, const struct dirent *entry, struct stat *status)
{
	return strlen(entry->d_name) == DIGEST_HEX_BYTES - 1 &&
	       fstatat(place_fd, entry->d_name, status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(status->st_mode);
}

/*
 * What a killed process left goes, and of too many templates the one that was not used for
 * longest. Who holds the lock is the only one who makes or removes anything here.
 */
static void tidy(int place_fd)
{
	char oldest[DIGEST_HEX_BYTES] = "";
	struct timespec oldest_time = {0};
	struct stat status;
	size_t count = 0;
	int fd = openat(place_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (!directory)
		return;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
		if (ends_with(entry->d_name, TEMPLATE_NEW))
			remove_template(place_fd, entry->d_name);
		if (!is_template(place_fd, entry, &status) || is_needed(place_fd, entry->d_name))
			continue;
		if (count++ > 0 && (status.st_mtim.tv_sec > oldest_time.tv_sec ||
				    (status.st_mtim.tv_sec == oldest_time.tv_sec &&
				     status.st_mtim.tv_nsec >= oldest_time.tv_nsec)))
			continue;
		oldest_time = status.st_mtim;
		snprintf(oldest, sizeof(oldest), "%.*s", DIGEST_HEX_BYTES - 1, entry->d_name);
	}
	closedir(directory);
	if (count >= TEMPLATES_MAX)
		remove_template(place_fd, oldest);
}

/* --- making --- */

/* A template that is being made: its directory has another name. */
struct making {
	const struct template_wish *wish;
	int directory_fd, memory_fd, state_fd, disk_fd, input_fd;
	struct template_facts facts;
	bool killed_from_outside; /* its VM was */
};

/* A full file system would only show when QEMU touches memory, as its death. */
static int check_room(int place_fd, const struct template_wish *wish, struct error *error)
{
	uint64_t wanted = wish->memory_bytes < TOUCHED_BYTES ? wish->memory_bytes : TOUCHED_BYTES;
	struct statvfs status;

	if (fstatvfs(place_fd, &status))
		return error_errno(error, "look at the file system for templates");
	if ((uint64_t)status.f_bavail * status.f_frsize < wanted)
		return error_set(error, "the file system for templates has too little room");
	return 0;
}

static int make_file(int directory_fd, const char *name, int *fd, struct error *error)
{
	*fd = openat(directory_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return *fd < 0 ? error_errno(error, "make the template's %s", name) : 0;
}

static int make_disk(int *fd, struct error *error)
{
	*fd = memfd_create("placeholder", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, PLACEHOLDER_BYTES))
		return error_errno(error, "make the template's disks");
	return 0;
}

static int make_files(struct making *making, int place_fd, const char *name, struct error *error)
{
	uint64_t memory_bytes = qemu_memory_bytes(making->wish->memory_bytes);

	if (mkdirat(place_fd, name, 0700))
		return error_errno(error, "make the template's directory");
	making->directory_fd = openat(place_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (making->directory_fd < 0)
		return error_errno(error, "open the template's directory");
	if (make_file(making->directory_fd, TEMPLATE_MEMORY, &making->memory_fd, error) ||
	    make_file(making->directory_fd, TEMPLATE_STATE, &making->state_fd, error))
		return -1;
	/* QEMU opens it again, and root's QEMU is another user; nobody else reaches it here. */
	if (fchmod(making->memory_fd, 0666) || ftruncate(making->memory_fd, (off_t)memory_bytes))
		return error_errno(error, "size the template's " TEMPLATE_MEMORY);
	return make_disk(&making->disk_fd, error) || make_disk(&making->input_fd, error) ? -1 : 0;
}

static int boot_and_save(struct making *making, struct error *error)
{
	static struct vm_outcome outcome;
	const struct template_wish *wish = making->wish;
	const struct vm_options options = {
		.qemu = {.image = wish->image,
			 .accel = wish->accel,
			 .memory_bytes = wish->memory_bytes,
			 .cpus = wish->cpus,
			 .job_disk_fd = making->disk_fd,
			 .has_input_disk = wish->has_input_disk,
			 .input_fd = making->input_fd,
			 .start = QEMU_SAVE,
			 .memory_fd = making->memory_fd,
			 .state_max_bytes = STATE_MAX_BYTES,
			 .tsc_khz = making->facts.tsc_khz},
		.state_fd = making->state_fd,
		.stdout_fd = -1,
		.stderr_fd = -1,
		.boot_timeout_ms = wish->boot_timeout_ms,
		.heartbeat_timeout_ms = wish->boot_timeout_ms,
	};

	if (vm_run(&options, &outcome, error))
		return -1;
	if (outcome.saved)
		return 0;
	making->killed_from_outside = outcome.killed_from_outside;
	error_set(error, "the template's VM: %s", outcome.message);
	return outcome.cancel_signal ? outcome.cancel_signal : -1;
}

static int note_file(int fd, const char *name, digest_function *digest, uint64_t *size_bytes,
		     char sha256[DIGEST_HEX_BYTES], struct error *error)
{
	struct stat status;

	if (fchmod(fd, 0444) || fsync(fd) || fstat(fd, &status))
		return error_errno(error, "sync the template's %s", name);
	if (digest(fd, name, sha256, error))
		return -1;
	*size_bytes = (uint64_t)status.st_size;
	return 0;
}

static int write_facts(const struct making *making, struct error *error)
{
	char *text = template_facts_text(&making->facts);
	int fd;

	if (!text)
		return error_set(error, "out of memory");
	int failed = make_file(making->directory_fd, TEMPLATE_FACTS, &fd, error);
	if (!failed) {
		failed = files_write(fd, TEMPLATE_FACTS, text, strlen(text), error);
		if (!failed && (fchmod(fd, 0444) || fsync(fd)))
			failed = error_errno(error, "sync the template's " TEMPLATE_FACTS);
		close(fd);
	}
	free(text);
	return failed;
}

static int describe_files(struct making *making, struct error *error)
{
	struct template_facts *facts = &making->facts;

	if (note_file(making->memory_fd, TEMPLATE_MEMORY, digest_sparse_file_hex,
		      &facts->memory_bytes, facts->memory_sha256, error) ||
	    note_file(making->state_fd, TEMPLATE_STATE, digest_file_hex, &facts->state_bytes,
		      facts->state_sha256, error) ||
	    write_facts(making, error))
		return -1;
	if (fchmod(making->directory_fd, 0755) || fsync(making->directory_fd))
		return error_errno(error, "sync the template's directory");
	return 0;
}

static int publish(int place_fd, const char *name, const char *key, struct error *error)
{
	remove_template(place_fd, key);
	if (renameat(place_fd, name, place_fd, key) || fsync(place_fd))
		return error_errno(error, "name the template %s", key);
	return 0;
}

static void close_files(const struct making *making)
{
	const int fds[] = {making->directory_fd, making->memory_fd, making->state_fd,
			   making->disk_fd, making->input_fd};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int template_make(int place_fd, const struct template_wish *wish, const char *key,
		  struct error *error)
{
	struct making making = {
		.wish = wish,
		.directory_fd = -1,
		.memory_fd = -1,
		.state_fd = -1,
		.disk_fd = -1,
		.input_fd = -1,
	};
	char name[DIGEST_HEX_BYTES + sizeof(TEMPLATE_NEW)];

	if (check_room(place_fd, wish, error))
		return -1;
	progress_phase("making a template");
	progress_show("%s", wish->image->release);
	tidy(place_fd);
	snprintf(name, sizeof(name), "%s" TEMPLATE_NEW, key);
	snprintf(making.facts.key, sizeof(making.facts.key), "%s", key);
	if (wish->accel == ACCEL_TCG && machine_find(wish->image->machine)->tcg_needs_tsc)
		making.facts.tsc_khz = tsc_measure_khz();
	int failed = make_files(&making, place_fd, name, error);
	if (!failed)
		failed = boot_and_save(&making, error);
	int cancel_signal = failed > 0 ? failed : 0;
	failed = failed || describe_files(&making, error) || publish(place_fd, name, key, error);
	close_files(&making);
	progress_clear();
	if (failed)
		remove_template(place_fd, name);
	/* Outside a VM's run, which had caught it, this signal ends jobvm. */
	if (cancel_signal)
		raise(cancel_signal);
	if (failed)
		return making.killed_from_outside ? 1 : -1;
	return 0;
}

void template_write_rejection(int place_fd, const char *key, const char *reason)
{
	char name[DIGEST_HEX_BYTES + sizeof(TEMPLATE_REJECTED)];

	snprintf(name, sizeof(name), "%s" TEMPLATE_REJECTED, key);
	unlinkat(place_fd, name, 0);
	int fd = openat(place_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	/* Without its reason it stands all the same. */
	if (write(fd, reason, strlen(reason)) < 0)
		unlinkat(place_fd, name, 0);
	close(fd);
}
