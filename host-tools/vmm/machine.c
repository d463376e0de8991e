#include "host-tools/vmm/machine.h"

#include <stdlib.h>
#include <string.h>

#include "imagebuilder/image_json.h"
#include "jobdisk/layout.h"

#define MIB (1024 * 1024)

static const struct machine machines[] = {
	{
		.name = MACHINE_PC,
		.options = "usb=off,vmport=off",
		.bus = "pci",
		.kernel_words = "",
		/* On a busy host the check of the timer fails, and the kernel panics. */
		.tcg_words = " no_timer_check",
		.tcg_single_words = "",
		/* The stock kernel needs about 80 MiB. */
		.memory_base_bytes = 112 * MIB,
	},
	{
		.name = MACHINE_MICROVM,
		/* Without ACPI, the timer, interrupt controller and clock of old are all it has. */
		.options = "acpi=off,pit=on,pic=on,rtc=on,isa-serial=on,auto-kernel-cmdline=on",
		.bus = "device",
		.kernel_words = " root=/dev/vda ro init=" GUEST_INIT,
		.tcg_words = " no_timer_check tsc=reliable",
		/* Saves its calibration. */
		.tcg_single_words = " nolapic_timer",
		.tcg_needs_tsc = true,
		/* A job fills its limit from 24 MiB on; with 16 processors it did with 32. */
		.memory_base_bytes = 32 * MIB,
	},
};

const struct machine *machine_find(const char *name)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
		if (strcmp(machines[i].name, name) == 0)
			return &machines[i];
	abort();
}
