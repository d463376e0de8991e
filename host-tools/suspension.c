#include "host-tools/suspension.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fsimage/copy.h"
#include "host-tools/disk.h"
#include "host-tools/exitcodes.h"
#include "host-tools/find_image.h"
#include "host-tools/message.h"
#include "host-tools/suspend/disk_digest.h"
#include "host-tools/suspend/memory.h"
#include "host-tools/suspend/state_key.h"
#include "host-tools/values.h"
#include "imagebuilder/verify.h"

#define STATE_NAME ".state"
#define NAME_BYTES (PATH_MAX + 64)

void suspend_check(const struct command *command, struct suspend_options *options)
{
	struct error error;

	options->every_ms = 0;
	if (options->every && parse_duration_ms(options->every, &options->every_ms, &error))
		message_usage(command->name, "option '--checkpoint-every': %s", error.text);
	if (options->every && options->every_ms == 0)
		message_usage(command->name, "option '--checkpoint-every': 0 is no time");
}

static void on_terminate(int signal_number)
{
	(void)signal_number;
	_exit(EXIT_JOB_SUSPENDED);
}

void suspend_catch(void)
{
	struct sigaction action;

	if (sigaction(SIGTERM, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		signal(SIGTERM, on_terminate);
}

/* --- names --- */

static void name_of(const char *path, const char *suffix, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%s%s%s", path, *suffix ? "." : "", suffix);
}

static void state_name(const char *path, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%s" STATE_NAME, path);
}

bool suspension_exists(const char *path)
{
	char name[NAME_BYTES];

	state_name(path, name);
	return access(name, F_OK) == 0;
}

/* Whether NAME is BASE with what a disk's suffix looks like. */
static bool is_disk_of(const char *name, const char *base)
{
	size_t length = strlen(base);

	return strncmp(name, base, length) == 0 && name[length] == '.' &&
	       strlen(name + length + 1) == SUSPENSION_SUFFIX_BYTES - 1 &&
	       strspn(name + length + 1, "0123456789abcdef") == SUSPENSION_SUFFIX_BYTES - 1;
}

/* Removes the disks of PATH's job that a killed process left, all but the one with KEPT. */
static void tidy(const char *path, const char *kept)
{
	char directory_path[PATH_MAX], base_path[PATH_MAX], kept_path[NAME_BYTES];

	snprintf(directory_path, sizeof(directory_path), "%s", path);
	snprintf(base_path, sizeof(base_path), "%s", path);
	const char *base = basename(base_path);
	name_of(base, kept, kept_path);
	DIR *directory = opendir(dirname(directory_path));
	if (!directory)
		return;
	for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
		if (is_disk_of(entry->d_name, base) && strcmp(entry->d_name, kept_path) != 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	closedir(directory);
}

/* The state first: without it the rest is no pair. */
static void drop(const char *path, bool with_disk)
{
	char name[NAME_BYTES];

	state_name(path, name);
	unlink(name);
	tidy(path, "");
	if (with_disk)
		unlink(path);
}

/* --- what a VM is made of --- */

struct machine {
	char qemu_sha256[DIGEST_HEX_BYTES], machine_sha256[DIGEST_HEX_BYTES];
	char processor[TEMPLATE_PROCESSOR_BYTES];
};

static int describe_machine(const struct qemu_options *qemu, struct machine *machine,
			    struct state_facts *facts, struct error *error)
{
	char program[PATH_MAX], memory[PATH_MAX];
	char *arguments = qemu_describe(qemu);

	find_memory(memory, sizeof(memory));
	int failed = qemu_find(program, sizeof(program), error) ||
		     verify_digest(program, memory, machine->qemu_sha256, error) ||
		     digest_bytes(arguments, strlen(arguments), machine->machine_sha256, error);
	free(arguments);
	template_processor(machine->processor);
	facts->qemu_sha256 = machine->qemu_sha256;
	facts->machine_sha256 = machine->machine_sha256;
	facts->processor = machine->processor;
	facts->kernel_sha256 = qemu->image->kernel_sha256;
	facts->initrd_sha256 = qemu->image->initrd_sha256;
	facts->root_sha256 = qemu->image->root_sha256;
	return failed ? -1 : 0;
}

struct fact_name {
	size_t offset;
	const char *name;
};

#define FACT(field, name)                                                                          \
	{                                                                                          \
		offsetof(struct state_facts, field), name                                          \
	}

/* What must be the same where a VM goes on, in the words of whoever has to find the right one. */
static const struct fact_name fact_names[] = {
	FACT(kernel_sha256, "guest kernel; --image names the image that it was started with"),
	FACT(initrd_sha256, "initrd; --image names the image that it was started with"),
	FACT(root_sha256, "root image; --image names the image that it was started with"),
	FACT(qemu_sha256, "build of QEMU"),
	FACT(processor, "model of processor"),
	FACT(machine_sha256, "machine: its accelerator or QEMU's command line differs"),
};

static bool differs(const struct state_facts *was, const struct state_facts *is, size_t offset)
{
	const char *before = *(const char *const *)((const void *)((const char *)was + offset));
	const char *now = *(const char *const *)((const void *)((const char *)is + offset));

	return strcmp(before ? before : "", now ? now : "") != 0;
}

int suspension_fit(const struct suspension *suspension, struct qemu_options *qemu,
		   struct error *error)
{
	const struct state_facts *was = state_facts(suspension->state);
	struct state_facts is = {.memory_bytes = 0};
	struct machine machine;

	qemu->memory_bytes = was->memory_bytes;
	qemu->cpus = was->cpus;
	qemu->tsc_khz = was->tsc_khz;
	if (describe_machine(qemu, &machine, &is, error))
		return -1;
	for (size_t i = 0; i < sizeof(fact_names) / sizeof(fact_names[0]); i++)
		if (differs(was, &is, fact_names[i].offset))
			return error_set(
				error,
				"%s: was suspended with another %s; 'run --restart' "
				"starts the job from its inputs, as packing its disk again does",
				suspension->path, fact_names[i].name);
	return 0;
}

/* --- finding a suspended job --- */

static int open_state(struct suspension *suspension, struct error *error)
{
	char name[NAME_BYTES];

	state_name(suspension->path, name);
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT)
		return 1;
	if (fd < 0)
		return error_errno(error, "open %s", name);
	suspension->lock_fd = fd;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		error_set(error, "%s: another jobvm goes on with this job", name);
		return 2;
	}
	if (state_open(fd, suspension->key, &suspension->state, error))
		return error_prefix(error, "%s", name);
	return 0;
}

static int read_notes(struct suspension *suspension, struct error *error)
{
	struct record_buffer *buffer = &suspension->manifest_buffer;
	char *text = state_notes(suspension->state, error);

	if (!text)
		return -1;
	suspension->notes = json_loads(text, 0, NULL);
	free(text);
	const char *manifest = json_string_value(json_object_get(suspension->notes, "manifest"));
	if (!manifest || strlen(manifest) > RECORD_MAX_BYTES)
		return error_set(error, "%s" STATE_NAME ": has no manifest", suspension->path);
	memcpy(buffer->text, manifest, strlen(manifest) + 1);
	return record_parse(&manifest_schema, "the suspended job's manifest", buffer,
			    strlen(manifest), &suspension->manifest, error);
}

/* The disk that the state was saved with, under either of the names that it can have. */
static int copy_disk(struct suspension *suspension, struct error *error)
{
	const struct state_facts *facts = state_facts(suspension->state);
	char name[NAME_BYTES], digest[DIGEST_HEX_BYTES];

	name_of(suspension->path, suspension->saved_suffix, name);
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT && suspension->saved_suffix[0])
		fd = open(suspension->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return error_errno(error, "open the suspended job's disk %s", name);
	if (pack_open(suspension->path, &suspension->copy, error)) {
		close(fd);
		return -1;
	}
	int failed = copy_whole(fd, suspension->copy.fd);
	if (failed)
		error_errno(error, "copy %s", name);
	close(fd);
	/* The copy is what the VM gets, whatever becomes of the file meanwhile. */
	if (!failed)
		failed = disk_digest_hex(suspension->copy.fd, name, digest, error);
	if (!failed && strcmp(digest, facts->disk_sha256) != 0)
		failed = error_set(error,
				   "%s: is not the disk that %s" STATE_NAME
				   " was saved with: it has gone on since, or is another one",
				   suspension->path, suspension->path);
	if (failed)
		pack_discard(&suspension->copy);
	return failed ? -1 : 0;
}

/* What was suspended is dropped, unless somebody works on it. */
static int restart(const struct suspension *suspension, struct error *error)
{
	char name[NAME_BYTES];

	state_name(suspension->path, name);
	int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	bool is_locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
	if (!is_locked)
		drop(suspension->path, true);
	else
		error_set(error, "%s: another jobvm goes on with this job", name);
	if (fd >= 0)
		close(fd);
	return is_locked ? 2 : 1;
}

/* The state that lies there. As suspension_open. */
static int open_pair(struct suspension *suspension, struct error *error)
{
	int found = open_state(suspension, error);

	if (found)
		return found;
	if (read_notes(suspension, error))
		return -1;
	const struct state_facts *facts = state_facts(suspension->state);
	suspension->has_pair = true;
	snprintf(suspension->saved_suffix, sizeof(suspension->saved_suffix), "%s",
		 facts->disk_suffix ? facts->disk_suffix : "");
	if (copy_disk(suspension, error))
		return -1;
	suspension->owns_copy = true;
	snprintf(suspension->copy.job_id, sizeof(suspension->copy.job_id), "%s", facts->job_id);
	tidy(suspension->path, suspension->saved_suffix);
	return 0;
}

int suspension_open(struct suspension *suspension, const char *path,
		    const struct suspend_options *options, struct error *error)
{
	*suspension = (struct suspension){
		.options = options, .disk_fd = -1, .copy = {.fd = -1}, .lock_fd = -1};
	snprintf(suspension->path, sizeof(suspension->path), "%s", path);
	suspension->is_open = true;
	bool exists = suspension_exists(path);
	if (exists && options->restart)
		return restart(suspension, error);
	/* The key of a job that starts is read when it is suspended, if it ever is. */
	if (!exists && !options->key_path)
		return 1;
	if (state_key_read(options->key_path, suspension->key, error))
		return -1;
	return exists ? open_pair(suspension, error) : 1;
}

void suspension_close(struct suspension *suspension)
{
	if (!suspension->is_open)
		return;
	if (suspension->owns_copy)
		pack_discard(&suspension->copy);
	if (suspension->lock_fd >= 0)
		close(suspension->lock_fd);
	state_close(suspension->state);
	json_decref(suspension->notes);
	*suspension = (struct suspension){.is_open = false};
}

/* --- saving --- */

/* A pair that is being made. */
struct saving {
	struct suspension *suspension;
	const struct vm_moment *moment;
	bool goes_on;
	char suffix[SUSPENSION_SUFFIX_BYTES];
	struct packed disk, state; /* fd -1: the disk is not a new file */
	struct state_facts facts;
	struct machine machine;
	char manifest_sha256[DIGEST_HEX_BYTES], disk_sha256[DIGEST_HEX_BYTES];
};

static int choose_suffix(char suffix[SUSPENSION_SUFFIX_BYTES], struct error *error)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return error_errno(error, "choose a name");
	snprintf(suffix, SUSPENSION_SUFFIX_BYTES, "%016" PRIx64, number);
	return 0;
}

/*
 * A VM that goes on writes its disk: the pair gets a copy. One that ends leaves its own, which may
 * be PATH already, or is on another file system.
 */
static int save_disk(struct saving *saving, struct error *error)
{
	struct suspension *suspension = saving->suspension;
	char name[NAME_BYTES];

	if (!saving->goes_on && suspension->in_place)
		return fsync(suspension->disk_fd) ? error_errno(error, "sync %s", suspension->path)
						  : 0;
	if (choose_suffix(saving->suffix, error))
		return -1;
	tidy(suspension->path, suspension->saved_suffix);
	name_of(suspension->path, saving->suffix, name);
	if (!saving->goes_on && pack_publish(&suspension->copy, name, error) == 0)
		return 0;
	if (pack_open(suspension->path, &saving->disk, error))
		return -1;
	if (copy_whole(suspension->disk_fd, saving->disk.fd))
		return error_errno(error, "copy the job disk to %s", name);
	return pack_publish(&saving->disk, name, error);
}

/* Only one who has written it can be asked for it again. */
static void name_template(const struct suspension *suspension, struct state_facts *facts)
{
	if (!suspension->template || suspension->options->whole)
		return;
	facts->template_key = suspension->template->facts.key;
	facts->template_memory_sha256 = suspension->template->facts.memory_sha256;
}

static int fill_facts(struct saving *saving, struct error *error)
{
	const struct suspension *suspension = saving->suspension;
	const struct vm_moment *moment = saving->moment;
	uint64_t before = suspension->state ? state_facts(suspension->state)->suspensions : 0;

	saving->facts = (struct state_facts){
		.job_id = suspension->vm_manifest->job_id,
		.manifest_sha256 = saving->manifest_sha256,
		.accel = moment->qemu->accel == ACCEL_KVM ? "kvm" : "tcg",
		.memory_bytes = moment->qemu->memory_bytes,
		.cpus = moment->qemu->cpus,
		.tsc_khz = moment->qemu->tsc_khz,
		.disk_suffix = saving->suffix[0] ? saving->suffix : NULL,
		.disk_sha256 = saving->disk_sha256,
		.inputs_identity = suspension->inputs_identity,
		.ran_ms = moment->ran_ms,
		.job_started_ms = moment->job_started_ms,
		.stdout_bytes = moment->stdout_bytes,
		.stderr_bytes = moment->stderr_bytes,
		.suspensions = before + 1,
		.suspended_at = (uint64_t)time(NULL),
	};
	name_template(suspension, &saving->facts);
	if (disk_manifest_digest(suspension->vm_manifest, saving->manifest_sha256, error) ||
	    disk_digest_hex(suspension->disk_fd, "the job disk", saving->disk_sha256, error))
		return -1;
	return describe_machine(moment->qemu, &saving->machine, &saving->facts, error);
}

static void note_digest(json_t *notes, const char *name, const char *hex)
{
	if (*hex)
		json_object_set_new(notes, name, json_string(hex));
}

/* A job is not kept from being suspended for want of a digest. */
static void note_inputs(const struct suspension *suspension)
{
	struct error ignored;

	if (!suspension->inputs || inputs_finish(suspension->inputs, &ignored))
		return;
	note_digest(suspension->notes, "inputs_sha256", suspension->inputs->tree_sha256);
	note_digest(suspension->notes, "stdin_sha256", suspension->inputs->stdin_sha256);
}

static void take_digest(const json_t *notes, const char *name, char hex[DIGEST_HEX_BYTES])
{
	const char *noted = json_string_value(json_object_get(notes, name));

	snprintf(hex, DIGEST_HEX_BYTES, "%s", noted ? noted : "");
}

bool suspension_inputs(struct suspension *suspension, struct inputs *inputs)
{
	if (!suspension->state) {
		suspension->inputs = inputs;
		return false;
	}
	take_digest(suspension->notes, "inputs_sha256", inputs->tree_sha256);
	take_digest(suspension->notes, "stdin_sha256", inputs->stdin_sha256);
	return true;
}

void suspension_report(const struct suspension *suspension, json_t *host)
{
	uint64_t count = suspension->state ? state_facts(suspension->state)->suspensions : 0;

	json_object_set_new(host, "suspensions", json_integer((json_int_t)count));
}

static char *notes_text(const struct suspension *suspension, struct error *error)
{
	static char manifest[RECORD_MAX_BYTES + 1];

	if (record_format(&manifest_schema, suspension->vm_manifest, manifest, error) < 0)
		return NULL;
	note_inputs(suspension);
	json_object_set_new(suspension->notes, "manifest", json_string(manifest));
	char *text = json_dumps(suspension->notes, JSON_COMPACT);
	if (!text)
		error_set(error, "out of memory");
	return text;
}

static int save_state(struct saving *saving, struct error *error)
{
	const struct suspension *suspension = saving->suspension;
	const struct qemu_options *qemu = saving->moment->qemu;
	struct state_source source = {.device_fd = saving->moment->device_fd,
				      .whole = !saving->facts.template_key};
	struct vm_memory memory;
	struct state_sizes sizes;
	int mapped_fd = qemu_open_mapped(qemu, error);

	if (mapped_fd < 0)
		return -1;
	char *notes = notes_text(suspension, error);
	int failed = !notes || vm_memory_open(&memory, saving->moment->pid, mapped_fd,
					      suspension->template ? qemu->memory_fd : -1,
					      qemu_memory_bytes(qemu->memory_bytes), error);
	if (!failed) {
		source.memory = &memory;
		source.notes = notes;
		failed = state_save(saving->state.fd, &saving->facts, &source, suspension->key,
				    &sizes, error);
		vm_memory_close(&memory);
	}
	free(notes);
	close(mapped_fd);
	return failed ? -1 : 0;
}

/* Puts the file with the name FROM in the place of TO. */
static int replace(const char *from, const char *to, struct error *error)
{
	if (rename(from, to) == 0)
		return 0;
	error_errno(error, "rename %s to %s", from, to);
	unlink(from);
	return -1;
}

/* Never over the state of another job that happens to be the same. */
static int publish_state(struct saving *saving, struct error *error)
{
	struct suspension *suspension = saving->suspension;
	char name[NAME_BYTES], beside[NAME_BYTES];

	state_name(suspension->path, name);
	if (flock(saving->state.fd, LOCK_EX | LOCK_NB))
		return error_errno(error, "lock %s", name);
	if (!suspension->has_pair)
		return pack_publish(&saving->state, name, error);
	snprintf(beside, sizeof(beside), "%.4080s.%d", name, (int)getpid());
	return pack_publish(&saving->state, beside, error) ? -1 : replace(beside, name, error);
}

/* From here on the new pair counts, and the disk of the old one has no use. */
static void settle(struct saving *saving)
{
	struct suspension *suspension = saving->suspension;
	char name[NAME_BYTES];

	name_of(suspension->path, suspension->saved_suffix, name);
	if (suspension->has_pair && suspension->saved_suffix[0])
		unlink(name);
	suspension->has_pair = true;
	if (saving->facts.template_key) {
		state_name(suspension->path, name);
		template_note_need(suspension->template, name);
	}
	snprintf(suspension->saved_suffix, sizeof(suspension->saved_suffix), "%s", saving->suffix);
	if (suspension->lock_fd >= 0)
		close(suspension->lock_fd);
	suspension->lock_fd = saving->state.fd;
	saving->state.fd = -1;
	if (saving->goes_on || !saving->suffix[0])
		return;
	/* A job's only disk is the one that the user knows. */
	name_of(suspension->path, saving->suffix, name);
	if (rename(name, suspension->path) == 0)
		suspension->saved_suffix[0] = '\0';
}

static int save(void *context, const struct vm_moment *moment, bool goes_on, struct error *error)
{
	struct saving saving = {.suspension = context,
				.moment = moment,
				.goes_on = goes_on,
				.disk = {.fd = -1},
				.state = {.fd = -1}};
	char name[NAME_BYTES];

	struct suspension *suspension = context;
	int failed = state_key_read(suspension->options->key_path, suspension->key, error) ||
		     save_disk(&saving, error) || fill_facts(&saving, error) ||
		     pack_open(saving.suspension->path, &saving.state, error) ||
		     save_state(&saving, error) || publish_state(&saving, error);
	if (!failed) {
		settle(&saving);
	} else if (saving.suffix[0]) {
		name_of(saving.suspension->path, saving.suffix, name);
		unlink(name);
	}
	if (saving.disk.fd >= 0)
		close(saving.disk.fd);
	if (saving.state.fd >= 0)
		close(saving.state.fd);
	return failed ? -1 : 0;
}

static void on_failure(void *context, const char *reason)
{
	(void)context;
	message_warning("the job is not suspended and goes on: %s", reason);
}

static int restore(void *context, pid_t pid, struct error *error)
{
	const struct suspension *suspension = context;
	const struct state_facts *facts = state_facts(suspension->state);
	struct vm_memory memory;
	const struct qemu_options qemu = {
		.start = QEMU_RESUME,
		.is_cloned = suspension->template != NULL,
		.memory_fd = suspension->template ? suspension->template->memory_fd : -1,
	};
	int mapped_fd = qemu_open_mapped(&qemu, error);

	if (mapped_fd < 0)
		return -1;
	int failed = vm_memory_open(&memory, pid, mapped_fd, qemu.memory_fd,
				    qemu_memory_bytes(facts->memory_bytes), error);
	if (!failed) {
		failed = state_restore_memory(suspension->state, &memory, error);
		vm_memory_close(&memory);
	}
	close(mapped_fd);
	return failed ? -1 : 0;
}

struct vm_suspend suspension_handlers(struct suspension *suspension, int disk_fd,
				      const struct manifest *manifest)
{
	struct vm_suspend handlers = {
		.save = save,
		.on_failure = on_failure,
		.restore = restore,
		.context = suspension,
		.every_ms = suspension->options->every_ms,
	};

	suspension->disk_fd = disk_fd;
	suspension->vm_manifest = manifest;
	if (!suspension->notes)
		suspension->notes = json_object();
	if (suspension->state) {
		const struct state_facts *facts = state_facts(suspension->state);
		handlers.since = (struct vm_moment){
			.ran_ms = facts->ran_ms,
			.job_started_ms = facts->job_started_ms,
			.stdout_bytes = facts->stdout_bytes,
			.stderr_bytes = facts->stderr_bytes,
		};
	}
	return handlers;
}

/* --- the job's end --- */

bool suspension_is_kept(const struct suspension *suspension, enum job_status status)
{
	switch (status) {
	case STATUS_INCOMPLETE:
	case STATUS_GUEST_PANIC:
	case STATUS_UNRESPONSIVE:
	case STATUS_BOOT_FAILED:
	case STATUS_VMM_FAILED:
		return suspension->has_pair;
	default:
		return false;
	}
}

int suspension_end(struct suspension *suspension, bool keep_disk, struct error *error)
{
	char name[NAME_BYTES], suffix[SUSPENSION_SUFFIX_BYTES];

	if (keep_disk && !suspension->in_place) {
		if (choose_suffix(suffix, error))
			return -1;
		name_of(suspension->path, suffix, name);
		if (pack_publish(&suspension->copy, name, error) ||
		    replace(name, suspension->path, error))
			return -1;
	}
	if (suspension->has_pair)
		drop(suspension->path, !keep_disk);
	suspension->has_pair = false;
	return 0;
}
