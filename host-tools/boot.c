#include "host-tools/boot.h"

#include "host-tools/accel.h"
#include "host-tools/confine.h"
#include "host-tools/find_image.h"
#include "host-tools/message.h"

int boot_prepare(const struct job *job, const char *image_path, struct boot *boot,
		 struct error *error)
{
	if (find_image(image_path, &boot->image, error))
		return -1;
	int accel = verify_image(&boot->image, error);
	if (accel == 0)
		accel = accel_choose((enum job_accel)job->accel, job->require_hardware,
				     &boot->image, error);
	if (accel < 0) {
		image_free(&boot->image);
		return -1;
	}
	boot->accel = (enum job_accel)accel;
	if (confine_landlock_abi() == 0)
		message_warning("this kernel has no Landlock: QEMU is confined by seccomp and its "
				"user only");
	return 0;
}

void boot_free(struct boot *boot)
{
	image_free(&boot->image);
}
