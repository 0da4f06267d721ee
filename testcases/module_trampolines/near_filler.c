// SPDX-License-Identifier: GPL-2.0-only
/*
 * fill: leaves no free address within 128 MB of the kernel image, until this module is unloaded, so that modules
 * loaded meanwhile come to lie beyond the reach of a direct branch; "and far away": none much farther away either, so
 * that they lie just out of reach; "and below": none below the kernel at all, so that they lie above it, which the
 * file refuses where this kernel puts no module there. Only addresses are taken, no memory.
 */
#include <linux/rcupdate.h>
#include <linux/version.h>
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

	/* no module lies below, and up to 5.3 not even the kernel's part of the address space may reach down to there */
	start = max_t(unsigned long, start, MODULES_VADDR);
	for (size = SZ_1G; size >= PAGE_SIZE; size /= 2) {
		struct vm_struct *area = NULL;

		while (used < MOST && (area = get_area(size, 0, start, end, fill_range)))
			areas[used++] = area;
		if (area) {
			pr_err("near_filler: more than %d pieces of free addresses\n", MOST);
			return -ENOSPC;
		}
	}
	return 0;
}

static notrace void release(unsigned int keep)
{
	while (used > keep)
		free_vm_area(areas[--used]);
}

/* Whether the kernel still finds room for a module, by asking it for some. */
static notrace bool module_fits(void)
{
	void *(*alloc)(int type, size_t size) = (void *)harness_lookup("execmem_alloc");
	void (*give_back)(void *memory) = (void *)harness_lookup("execmem_free");
	void *(*old_alloc)(unsigned long size) = (void *)harness_lookup("module_alloc");
	void (*old_give_back)(void *memory) = (void *)harness_lookup("module_memfree");
	void *memory = NULL;

	if (alloc && give_back) {
		memory = alloc(0 /* EXECMEM_DEFAULT */, SZ_1M);
		if (memory)
			give_back(memory);
	} else if (old_alloc && old_give_back) {
		memory = old_alloc(SZ_1M);
		if (memory)
			old_give_back(memory);
	}
	return memory;
}

/* Wait until the init sections of modules loaded before, this one's too, are given back. */
static notrace int wait_for_init_sections(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 2, 0)
	/* by an RCU callback, which leaves the unmapping to a worker, being no place to sleep in */
	rcu_barrier();
	flush_scheduled_work();
#else
	struct work_struct *free_init = (void *)harness_lookup("init_free_wq");

	if (!free_init)
		return harness_lacks("init_free_wq");
	flush_work(free_init);
#endif
	return 0;
}

static notrace int fill(char *what)
{
	unsigned long first = harness_lookup("_text"), end = harness_lookup("_end");
	unsigned long room;
	unsigned int near;
	int ret;

	get_area = (void *)harness_lookup("__get_vm_area_caller");
	if (!get_area)
		return harness_lacks("__get_vm_area_caller()");
	if (!first || !end)
		return harness_lacks("_text or _end in kallsyms");
	ret = wait_for_init_sections();
	if (ret)
		return ret;
	ret = fill_range(first - REACH, end + REACH);
	if (!ret && !strcmp(what, "and below"))
		return fill_range(first - SZ_2G, first - REACH) ?:
		       module_fits() ? 0 : harness_lacks("room for modules far above itself");
	if (ret || strcmp(what, "and far away"))
		return ret;
	near = used;
	for (room = SZ_64M; room < SZ_1G; room *= 2) {
		ret = fill_range(first - SZ_2G, first - REACH - room) ?: fill_range(end + REACH + room, end + SZ_2G);
		if (ret || module_fits())
			return ret;
		release(near);
	}
	return 0;
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
	release(0);
}

module_init(near_filler_start);
module_exit(near_filler_stop);
MODULE_DESCRIPTION("leaves no room for modules near the kernel");
MODULE_LICENSE("GPL");
