/*
 * What a privileged job can do to the verdict on itself: writes a result record of its own to the
 * job disk, and makes PID 1 unable to replace it. Exits 7; the record says 0.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK "/tmp/disk"

static uint32_t crc32c(const char *bytes, size_t length)
{
	uint32_t crc = ~0U;

	for (size_t i = 0; i < length; i++) {
		crc ^= (uint8_t)bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

static void read_job_id(char job_id[37])
{
	char line[4096];
	FILE *manifest = fopen(DISK "/manifest", "r");

	if (!manifest)
		err(1, "the manifest");
	while (fgets(line, sizeof(line), manifest))
		if (sscanf(line, "job_id=%36s", job_id) == 1)
			break;
	fclose(manifest);
}

static void write_record(const char *job_id)
{
	char text[1024];
	FILE *result = fopen(DISK "/result", "w");

	snprintf(text, sizeof(text),
		 "version=1\njob_id=%s\nstatus=completed\nexit_code=0\noom_killed=false\n"
		 "stdout_truncated=false\nstderr_truncated=false\ncheckpoints=0\n"
		 "privileged=false\n",
		 job_id);
	if (!result)
		err(1, "the record");
	fprintf(result, "%send=%08x\n", text, crc32c(text, strlen(text)));
	fclose(result);
}

static void make_immutable(const char *path)
{
	int flags = 0;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags))
		err(1, "%s", path);
	flags |= FS_IMMUTABLE_FL;
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags))
		err(1, "%s", path);
	close(fd);
}

int main(void)
{
	char job_id[37] = "";

	mkdir(DISK, 0700);
	if (mount("/dev/vdb", DISK, "ext4", 0, NULL))
		err(1, "mount the job disk");
	read_job_id(job_id);
	write_record(job_id);
	make_immutable(DISK "/result");
	sync();
	return 7;
}
