/*
 * bzimage: the header of a bzImage, by offset: the kernel's Documentation/x86/boot.rst.
 */
#ifndef IMAGEBUILDER_BZIMAGE_H
#define IMAGEBUILDER_BZIMAGE_H

#define SETUP_SECTORS_OFFSET	    0x1f1 /* of the real-mode code, after the boot sector; 0: 4 */
#define SETUP_MAGIC_OFFSET	    0x202 /* "HdrS" */
#define SETUP_VERSION_OFFSET	    0x206
#define SETUP_KERNEL_VERSION_OFFSET 0x20e
#define SETUP_XLOADFLAGS_OFFSET	    0x236
#define SETUP_HEADER_END	    0x238
#define SETUP_PAYLOAD_OFFSET	    0x248 /* from the protected-mode code's start */
#define SETUP_PAYLOAD_LENGTH	    0x24c
#define SETUP_PAYLOAD_END	    0x250
#define SETUP_SECTOR_BYTES	    0x200
#define SETUP_VERSION_XLOADFLAGS    0x020c /* the first protocol version that has them */
#define XLOADFLAG_KERNEL_64	    0x0001

#endif
