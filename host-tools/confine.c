#include "host-tools/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * A user id for each process, in a range that neither Debian nor systemd hands out (systemd's
 * UIDS-GIDS): two VMs of one root may not signal or trace each other. In a user namespace that
 * does not map it, "nobody" has to do.
 */
#define FIRST_UID  0x70000000U
#define UID_COUNT  0x00400000U
#define NOBODY_UID 65534

/* Rights by the ABI that brought them; linux/landlock.h of Debian 12 knows the first only. */
#define ACCESS_FS_REFER	    (1ULL << 13) /* ABI 2 */
#define ACCESS_FS_TRUNCATE  (1ULL << 14) /* ABI 3 */
#define ACCESS_FS_IOCTL_DEV (1ULL << 15) /* ABI 5 */
#define ACCESS_NET_BIND	    1ULL	 /* ABI 4 */
#define ACCESS_NET_CONNECT  2ULL	 /* ABI 4 */
#define SCOPE_ALL	    3ULL	 /* ABI 6: abstract Unix sockets, signals */

#define READ_FILE  (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_EXECUTE)
#define WRITE_FILE (LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_FS_TRUNCATE | ACCESS_FS_IOCTL_DEV)
#define CREATE_FILES                                                                               \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_FS_TRUNCATE |       \
	 LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                            \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define ABI_1_ALL (LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1)

/* struct landlock_ruleset_attr as of ABI 6; an older kernel is given its beginning only. */
struct ruleset {
	uint64_t access_fs, access_net, scoped;
};

int confine_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

bool confine_has_seccomp(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

static uint64_t known_fs_rights(int abi)
{
	uint64_t rights = ABI_1_ALL;

	if (abi >= 2)
		rights |= ACCESS_FS_REFER;
	if (abi >= 3)
		rights |= ACCESS_FS_TRUNCATE;
	if (abi >= 5)
		rights |= ACCESS_FS_IOCTL_DEV;
	return rights;
}

static int create_ruleset(int abi, uint64_t known, bool connects)
{
	struct ruleset ruleset = {.access_fs = known};
	size_t size = sizeof(ruleset.access_fs);

	if (abi >= 4) {
		ruleset.access_net = ACCESS_NET_BIND | (connects ? 0 : ACCESS_NET_CONNECT);
		size += sizeof(ruleset.access_net);
	}
	if (abi >= 6) {
		ruleset.scoped = SCOPE_ALL;
		size += sizeof(ruleset.scoped);
	}
	return (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
}

static bool may_connect(const struct confine_rule *rules, size_t rule_count)
{
	for (size_t i = 0; i < rule_count; i++)
		if (rules[i].access == CONFINE_CONNECT)
			return true;
	return false;
}

static uint64_t access_rights(enum confine_access access)
{
	if (access == CONFINE_CREATE)
		return CREATE_FILES;
	return access == CONFINE_READ ? READ_FILE : READ_FILE | WRITE_FILE;
}

static int add_rule(int ruleset_fd, const struct confine_rule *rule, uint64_t known)
{
	struct landlock_path_beneath_attr beneath = {.parent_fd = rule->fd};
	struct stat status;

	if (rule->path) {
		beneath.parent_fd = open(rule->path, O_PATH | O_CLOEXEC);
		if (beneath.parent_fd < 0)
			return errno == ENOENT || errno == EACCES ? 0 : -1;
	}
	int result = fstat(beneath.parent_fd, &status);
	beneath.allowed_access = access_rights(rule->access);
	if (S_ISDIR(status.st_mode))
		beneath.allowed_access |= LANDLOCK_ACCESS_FS_READ_DIR;
	beneath.allowed_access &= known;
	if (result == 0)
		result = (int)syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH,
				      &beneath, 0);
	if (rule->path)
		close(beneath.parent_fd);
	return result;
}

int confine_files(const struct confine_rule *rules, size_t rule_count)
{
	int abi = confine_landlock_abi();
	uint64_t known = known_fs_rights(abi);
	int result = 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	if (abi == 0)
		return 0;
	int ruleset_fd = create_ruleset(abi, known, may_connect(rules, rule_count));
	if (ruleset_fd < 0)
		return -1;
	for (size_t i = 0; i < rule_count && result == 0; i++)
		if (rules[i].access != CONFINE_CONNECT)
			result = add_rule(ruleset_fd, &rules[i], known);
	if (result == 0)
		result = (int)syscall(SYS_landlock_restrict_self, ruleset_fd, 0);
	close(ruleset_fd);
	return result;
}

void confine_signals(void)
{
	sigset_t ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGHUP);
	sigprocmask(SIG_SETMASK, &ours, NULL);
}

void confine_network(void)
{
	/* Ids need no mapping: the process opens nothing by its own rights that others may not. */
	if (unshare(CLONE_NEWNET | (geteuid() == 0 ? 0 : CLONE_NEWUSER)))
		return;
}

/* Root of a user namespace that has no other user is the user who made it (user_namespaces(7)). */
static bool is_lone_root(void)
{
	unsigned inside, outside, count, ranges = 0;
	FILE *file = fopen("/proc/self/uid_map", "re");

	while (file && fscanf(file, "%u %u %u", &inside, &outside, &count) == 3)
		ranges += count == 1 ? 1 : 2;
	if (file)
		fclose(file);
	return ranges == 1;
}

static int set_capabilities(uint32_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {
		{.effective = kept, .permitted = kept}};

	return (int)syscall(SYS_capset, &header, sets);
}

int confine_user(gid_t gid)
{
	uid_t uid = FIRST_UID + (uid_t)getpid() % UID_COUNT;

	if (geteuid() != 0)
		return 0;
	/* As for any ordinary user; no_new_privs keeps root from getting them back by execve(2). */
	if (is_lone_root())
		return set_capabilities(0);
	if (setgroups(gid ? 1 : 0, &gid))
		return -1;
	if (setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0)
		return 0;
	if (setresgid(NOBODY_UID, NOBODY_UID, NOBODY_UID))
		return -1;
	return setresuid(NOBODY_UID, NOBODY_UID, NOBODY_UID);
}

int confine_capabilities(void)
{
	return geteuid() == 0 ? set_capabilities(1U << CAP_DAC_OVERRIDE | 1U << CAP_FOWNER) : 0;
}

/* --- system calls --- */

/* What libc (sysinfo: qsort(3)), libblkid and libext2fs need when everything is open. */
static const int computing_calls[] = {
	SCMP_SYS(brk),	   SCMP_SYS(clock_gettime),  SCMP_SYS(close),
	SCMP_SYS(exit),	   SCMP_SYS(exit_group),     SCMP_SYS(fadvise64),
	SCMP_SYS(fstat),   SCMP_SYS(fsync),	     SCMP_SYS(getegid),
	SCMP_SYS(geteuid), SCMP_SYS(getgid),	     SCMP_SYS(getuid),
	SCMP_SYS(getpid),  SCMP_SYS(getrandom),	     SCMP_SYS(gettid),
	SCMP_SYS(lseek),   SCMP_SYS(madvise),	     SCMP_SYS(mremap),
	SCMP_SYS(munmap),  SCMP_SYS(newfstatat),     SCMP_SYS(pread64),
	SCMP_SYS(read),	   SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sysinfo), SCMP_SYS(write),
};

/* Landlock decides where. */
static const int writing_calls[] = {
	SCMP_SYS(copy_file_range), SCMP_SYS(ftruncate), SCMP_SYS(pwrite64),
	SCMP_SYS(renameat),	   SCMP_SYS(symlinkat), SCMP_SYS(unlinkat),
};

#define SPECIAL_BITS (S_ISUID | S_ISGID | S_ISVTX)

/* Calls that may only be made with certain values of one argument. */
static const struct narrow_call {
	int call;
	struct scmp_arg_cmp allowed;
} narrow_calls[] = {
	/* No memory that can be executed. */
	{SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	{SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
	/* What libext2fs asks of its file and of its environment. */
	{SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, BLKDISCARDZEROES, 0)},
	{SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_GET_DUMPABLE, 0)},
	/* Not F_SETOWN, by which a signal reaches any process of the same user. */
	{SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, F_GETFL, 0)},
	{SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, F_GETFD, 0)},
	{SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, F_SETFD, 0)},
	{SCMP_SYS(fcntl), SCMP_A1(SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0)},
};

/*
 * No file that gives rights to who executes it. openat2 cannot be allowed: its mode lies in memory.
 */
static const struct narrow_call narrow_writing_calls[] = {
	{SCMP_SYS(fchmod), SCMP_A1(SCMP_CMP_MASKED_EQ, SPECIAL_BITS, 0)},
	{SCMP_SYS(mkdirat), SCMP_A2(SCMP_CMP_MASKED_EQ, SPECIAL_BITS, 0)},
	{SCMP_SYS(openat), SCMP_A3(SCMP_CMP_MASKED_EQ, SPECIAL_BITS, 0)},
	/* futimens: Landlock does not know times, so no path. */
	{SCMP_SYS(utimensat), SCMP_A1(SCMP_CMP_EQ, 0, 0)},
};

static int allow_narrow_calls(scmp_filter_ctx filter, const struct narrow_call *calls, size_t count)
{
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++)
		result = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i].call, 1,
						&calls[i].allowed);
	return result;
}

static int allow_calls(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int result = 0;

	for (size_t i = 0; i < count && result == 0; i++)
		result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return result;
}

int confine_calls(bool writes)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int result = filter ? 0 : -ENOMEM;

	if (!result)
		result = allow_calls(filter, computing_calls,
				     sizeof(computing_calls) / sizeof(computing_calls[0]));
	if (!result && writes)
		result = allow_calls(filter, writing_calls,
				     sizeof(writing_calls) / sizeof(writing_calls[0]));
	if (!result)
		result = allow_narrow_calls(filter, narrow_calls,
					    sizeof(narrow_calls) / sizeof(narrow_calls[0]));
	if (!result && writes)
		result = allow_narrow_calls(filter, narrow_writing_calls,
					    sizeof(narrow_writing_calls) /
						    sizeof(narrow_writing_calls[0]));
	if (!result)
		result = seccomp_load(filter);
	seccomp_release(filter);
	errno = -result;
	return result ? -1 : 0;
}
