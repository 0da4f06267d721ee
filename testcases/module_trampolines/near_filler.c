// SPDX-License-Identifier: GPL-2.0-only
/*
 * fill: leaves no free address within 128 MB of the kernel image, until this module is unloaded, so that modules
 * loaded meanwhile come to lie beyond the reach of a direct branch; "and far away": none beyond 192 MB either, so that
 * they lie just out of reach. Only addresses are taken, no memory.
 */
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include "harness_test.h"

#define REACH SZ_128M
#define MOST 512

static struct vm_struct *areas[MOST];
static unsigned int used;

static struct vm_struct *(*get_area)(unsigned long size, unsigned long flags, unsigned long start, unsigned long end,
				     const void *caller);

/* Take every free address from start to end. */
static notrace int fill_range(unsigned long start, unsigned long end)
{
	unsigned long size;

	for (size = SZ_1G; size >= PAGE_SIZE; size /= 2) {
		struct vm_struct *area = NULL;

		while (used < MOST && (area = get_area(size, 0, start, end, fill_range)))
			areas[used++] = area;
		if (area)
			return -ENOSPC;
	}
	return 0;
}

static notrace int fill(char *what)
{
	unsigned long first = harness_lookup("_text"), end = harness_lookup("_end");
	struct work_struct *free_init = (void *)harness_lookup("init_free_wq");
	int ret;

	get_area = (void *)harness_lookup("__get_vm_area_caller");
	if (!get_area || !first || !end || !free_init) {
		pr_err("near_filler: this kernel lacks one of __get_vm_area_caller, _text, _end, init_free_wq\n");
		return -ENOENT;
	}
	/* the init sections of modules loaded before, this one's too, are given back by a worker */
	flush_work(free_init);
	ret = fill_range(first - REACH, end + REACH);
	if (!ret && !strcmp(what, "and far away"))
		ret = fill_range(first - SZ_2G, first - REACH - SZ_64M) ?:
		      fill_range(end + REACH + SZ_64M, end + SZ_2G);
	return ret;
}

static const struct harness_file files[] = {
	{ .name = "fill", .store = fill },
	{ }
};

static int __init near_filler_start(void)
{
	return harness_files(files);
}

static void __exit near_filler_stop(void)
{
	harness_files_remove();
	while (used)
		free_vm_area(areas[--used]);
}

module_init(near_filler_start);
module_exit(near_filler_stop);
MODULE_DESCRIPTION("leaves no room for modules near the kernel");
MODULE_LICENSE("GPL");
