/*
 * Makes files with all that must not leave a job disk, in its working directory, and prints what it
 * could not make.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static void expect(const char *what, int result)
{
	if (result)
		printf("%s\n", what);
}

static int file(const char *name, mode_t mode)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);

	expect(name, fd < 0 || write(fd, "x", 1) != 1 || fchmod(fd, mode));
	return fd;
}

int main(void)
{
	/* linux/capability.h: version 2, CAP_SYS_ADMIN effective and permitted. */
	static const unsigned char capability[20] = {1, 0, 0, 2, 0, 0, 0x20};
	/* linux/posix_acl_xattr.h: user::rw-, user:7:rwx, group::r--, mask::rwx, other::--- */
	static const unsigned char acl[] = {
		2, 0, 0,    0,	  1,	0,    6,  0, 0xff, 0xff, 0xff, 0xff, 2,	   0,	7,
		0, 7, 0,    0,	  0,	4,    0,  4, 0,	   0xff, 0xff, 0xff, 0xff, 16,	0,
		7, 0, 0xff, 0xff, 0xff, 0xff, 32, 0, 0,	   0,	 0xff, 0xff, 0xff, 0xff};
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int immutable_fd, flags = 0;

	umask(0);
	file("set-user-id", 04755);
	file("set-group-id", 02755);
	expect("sticky", mkdir("sticky", 0777) || chmod("sticky", 03777));
	expect("capability", fsetxattr(file("capability", 0755), "security.capability", capability,
				       sizeof(capability), 0));
	expect("acl", fsetxattr(file("acl", 0640), "system.posix_acl_access", acl, sizeof(acl), 0));
	expect("owner", fchown(file("owner", 0644), 12345, 12345));
	expect("fifo", mkfifo("fifo", 0666));
	expect("socket",
	       bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof(address)));
	expect("device", mknod("device", S_IFCHR | 0666, makedev(1, 3)));
	expect("block", mknod("block", S_IFBLK | 0666, makedev(254, 0)));
	immutable_fd = file("immutable", 0644);
	expect("flags", ioctl(immutable_fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_IMMUTABLE_FL;
	expect("immutable", ioctl(immutable_fd, FS_IOC_SETFLAGS, &flags));
	return 0;
}
