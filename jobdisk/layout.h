/*
 * layout: the names that host and guest agree on (design, section 4).
 */
#ifndef JOBDISK_LAYOUT_H
#define JOBDISK_LAYOUT_H

/* The job disk: an ext4 image whose UUID is the job's id. */
#define JOBDISK_LABEL	 "JOBVM-JOB"
#define JOBDISK_SERIAL	 "jobvm-job"
#define ROOTDISK_LABEL	 "JOBVM-ROOT"
#define ROOTDISK_SERIAL	 "jobvm-root"
/* Inputs that are fetched when they are read: an ext4 image whose root is a layer of the workspace,
 * below JOBDISK_INPUT. */
#define INPUTDISK_LABEL	 "JOBVM-INPUT"
#define INPUTDISK_SERIAL "jobvm-input"

#define JOBDISK_MANIFEST   "manifest"
#define JOBDISK_INPUT	   "input"   /* lower layer of the workspace */
#define JOBDISK_OUTPUT	   "output"  /* upper layer: what the job created, changed, deleted */
#define JOBDISK_WORKDIR	   "workdir" /* overlayfs's own working directory */
#define JOBDISK_SCRATCH	   "scratch" /* upper layer of the root, thrown away */
#define JOBDISK_STDIN	   "stdin"   /* only where the manifest says stdin=true */
#define JOBDISK_STDOUT	   "stdout"
#define JOBDISK_STDERR	   "stderr"
#define JOBDISK_RESULT	   "result"
/*
 * The result record's space is allocated when the disk is made, so that a job that fills the
 * disk cannot keep PID 1 from committing: PID 1 overwrites this file and renames it.
 */
#define JOBDISK_RESULT_NEW "result.new"

/* Directories in the scratch area: upper and working directory of the guest root's overlay. */
#define SCRATCH_ROOT	  "root"
#define SCRATCH_ROOT_WORK "root.work"

#define WORKSPACE "/job"
#define JOB_USER  "job"
#define JOB_UID	  1000
#define JOB_GID	  1000

/* virtio-serial ports, by name. */
#define PORT_CONTROL "jobvm.control"
#define PORT_STDOUT  "jobvm.stdout"
#define PORT_STDERR  "jobvm.stderr"

/*
 * PID 1's directory: in a root image that is booted without an initrd, where PID 1 lies. PID 1
 * mounts its own root there, so that nobody sees it, and later moves that to /.
 */
#define GUEST_INIT_DIR "/.jobvm"
#define GUEST_INIT     GUEST_INIT_DIR "/init"

/*
 * A word of the kernel's command line, which the kernel hands on to PID 1: the job disk is only to
 * be mounted, so that the kernel replays its journal, and unmounted.
 */
#define GUEST_RECOVERY_WORD "jobvm_recovery"

/* PID 1's word to itself when it begins anew for another job (control.h, CONTROL_AGAIN). */
#define GUEST_AGAIN_WORD "jobvm_again"

/* Where the initrd keeps the modules that PID 1 loads, and the file that says in which order. */
#define INITRD_MODULES	    "/modules"
#define INITRD_MODULE_ORDER "/modules/order"

#endif
