/*
 * control: what PID 1 and the host say to each other over the control port.
 *
 * Lines of at most CONTROL_LINE_BYTES with their newline: a word, then its arguments after one
 * blank each. Whatever the guest says is a claim: the host shows it and times it, no more.
 */
#ifndef JOBDISK_CONTROL_H
#define JOBDISK_CONTROL_H

#define CONTROL_LINE_BYTES 512

/*
 * host to guest, once, in answer to "ready", or to a clone of a VM that has said it:
 * "hello SECONDS NANOSECONDS SEED"; the time is that of sending, SEED is CONTROL_SEED_BYTES in hex
 */
#define CONTROL_HELLO	   "hello"
#define CONTROL_SEED_BYTES 32
/* host to guest, as often as a suspended VM goes on: "resumed SECONDS NANOSECONDS SEED", like hello
 */
#define CONTROL_RESUMED	   "resumed"
/*
 * host to guest, after "unmounted", where the VM is to run another job: PID 1 removes what is left
 * of this one, and is "ready" again
 */
#define CONTROL_AGAIN	   "again"
/* host to guest, in answer to each "clock": "time SECONDS NANOSECONDS", that of sending */
#define CONTROL_TIME	   "time"

/* guest to host */
#define CONTROL_STAGE	  "stage"	   /* stage NAME: PID 1 enters a stage */
#define CONTROL_MOUNTING  "mount_job_disk" /* the stage at which the job disk is first written */
#define CONTROL_READY	  "ready"	   /* PID 1 waits for the host's hello */
#define CONTROL_CLOCK	  "clock"	   /* PID 1 waits for the host's time */
#define CONTROL_ALIVE	  "alive"	   /* every CONTROL_ALIVE_MS */
#define CONTROL_STARTED	  "started"	   /* the job runs; its clock starts */
#define CONTROL_ENDED	  "ended" /* ended OUT ERR: the job has; so many bytes went to the ports */
#define CONTROL_FATAL	  "fatal" /* fatal STAGE MESSAGE...: PID 1 gives up */
#define CONTROL_UNMOUNTED "unmounted" /* nothing more will be written: the VM may go */
#define CONTROL_OFF	  "off"	      /* without "unmounted": PID 1 powers off, as far as it can */

#define CONTROL_ALIVE_MS 1000

#endif
