"""Distinguishes functions that name the location of a bug from those that only report it, or that do something for
their callers.

A report names what the CPU executed. Often that is the reporter (`spin_bug`), or a helper that was given something bad
(`memcpy`, `_raw_spin_lock`): titles that name those are alike for every bug found that way.
"""

from __future__ import annotations

import re

_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm|lto_priv)\b.*")

# They only report.
_REPORTERS = (
    r"(?:__)?dump_(?:backtrace|stack(?:_lvl)?|cpu_task|page)|show_(?:stack|regs)|walk_stackframe|v?panic|nmi_panic"
    r"|__warn(?:_printk)?|warn_slowpath_\w+|report_bug|die|__do_kernel_fault|__bad_area_nosemaphore"
    r"|bad_page|print_bad_(?:pte|page_map)|spin_(?:bug|dump)|rwlock_bug|debug_(?:spin|read|write)_(?:un)?lock\w*"
    r"|__this_cpu_preempt_check|debug_smp_processor_id|check_preemption_disabled|preempt_count_(?:add|sub)"
    r"|__might_(?:sleep|resched|fault)|___might_sleep|__cant_(?:sleep|migrate)|__schedule_bug|dequeue_task_idle"
    r"|_*fortify_(?:panic|report)|usercopy_abort|_*check_(?:heap_object|object_size)|copy_overflow"
    r"|refcount_warn_saturate|_*list_(?:add|del)(?:_entry)?_valid\w*|__stack_chk_fail"
    r"|debug_(?:print_object|object_\w+|check_no_(?:obj|locks)_\w+)|__debug_(?:object|check)_\w+"
    r"|_*check_(?:memory_region\w*|region_inline)|_*k(?:as|cs|ms)an_\w+|kfence_report\w*|_*hwasan_\w+|__(?:asan|tsan|msan|ubsan)_\w+|ubsan_\w+"
    r"|print_(?:report|address_description|tainted|trailer|lock_\w+|\w+_bug|bad_irq_dependency|unlock_imbalance)"
    r"|lockdep_\w+|_*lock_(?:acquire|release|acquired|contended|downgrade|sync|set_class|is_held\w*|\w*pin_lock)|register_lock_class"
    r"|(?:mark|validate|reacquire)_(?:lock\w*|usage|held_locks|chain)|assign_lock_key|look_up_lock_class"
    r"|debug_lockdep_rcu_\w+|check_(?:wait_context|prevs?_add|noncircular|irq_usage)|_*ftrace_bug"
    r"|rust_helper_BUG|rust_begin_unwind|report_cfi_failure|_*cfi_slowpath\w*"
    r"|kmemleak_\w+|__report_bad_irq|note_interrupt"
)
# They work for their callers: locks, memory, strings, user space, waiting.
_HELPERS = (
    r"_raw_(?:spin|read|write)_\w+|do_raw_\w+|(?:native_)?queued_\w+_(?:slowpath|trace\w*)|rt_(?:spin|read|write)_\w+"
    r"|_*(?:ww_|rt_)?mutex_\w+|_*rtlock_slow\w*|_*rwsem_\w+|_*(?:down|up)(?:_(?:read|write)\w*)?"
    r"|_*down_(?:common|interruptible|killable|trylock|timeout)|percpu_down_\w+|__percpu_down_\w+|osq_lock|_*(?:atomic|refcount)_dec_and_\w*lock\w*"
    r"|_*(?:pi_)?mem(?:cpy|set|move|cmp|chr|scan)\w*|_*(?:pi_)?str(?:n?len|n?cmp|n?cpy|n?cat|n?chr|scpy|lcpy|str)"
    r"|_*(?:arch_)?(?:raw_)?_?(?:copy_(?:to|from|in)_user|clear_user)\w*|_*copy_(?:to|from)_iter|(?:copy|clear)_page"
    r"|string(?:_nocheck)?|v?sc?nprintf|v?sprintf|_?printk|__wake_up\w*|finish_wait|prepare_to_wait\w*|complete(?:_all)?"
    r"|[mf]sleep\w*|usleep_range\w*|_*(?:const_)?udelay|__delay|arch_local_irq_\w+|__l(?:l|se)_?sc_?atomic\w*"
)
# They free and allocate.
_ALLOCATORS = (
    r"_*(?:kmem_cache_\w+|k(?:v?(?:m|z|c|re)alloc)(?:_(?:array|node|noprof|track_caller|large|order|trace|cache|flags))*)"
    r"|_*kernel_(?:un)?(?:poison|map)_pages|k[vz]?free(?:_(?:const|sensitive|nolock|bulk|call_rcu|rcu_\w+))?|_*ksize|kmemdup\w*|kstrn?dup\w*|kv?asprintf"
    r"|_*v[mz]alloc\w*|_*vfree\w*|mempool_(?:alloc|free)\w*|devm_k\w+"
    r"|_*(?:slab|slub|do_slab|memcg_slab|unfreeze_partials|rcu_free_sheaf|sheaf|barn|pcs)_\w+|slab_free|___cache_free"
    r"|object_err|check_(?:object|slab|bytes_and_report|pad_bytes|valid_pointer)|on_freelist|free_partial"
    r"|(?:free|alloc)_(?:debug_processing|consistency_checks|\w*pcs\w*|single_from_\w+|to_partial_list|slab_obj_exts)"
    r"|validate_slab\w*|_*(?:de)?activate_slab|(?:get|put)_\w*partial\w*|flush_(?:cpu_)?slab|new_slab|allocate_slab"
    r"|_*free_slab|discard_slab|create_object|init_object|set_track\w*|refill_objects"
    r"|check_(?:free_page|new_pages?|free_page_bad)\w*|free_page_is_bad\w*|(?:prep_new|release|put)_pages?|post_alloc_hook"
    r"|_*free_(?:unref|frozen|pages?|one|pcp|tail|contig|large|reserved|prepared)\w*|_*(?:put_page|folios?_put)\w*"
    r"|get_page_from_freelist|rmqueue\w*|_*alloc_(?:pages?|frozen|zeroed|contig)\w*|_*get_free_pages?\w*"
)
# Frames between where it went wrong and the report, or between the kernel's entry and where it went wrong.
_PLUMBING = (
    r"__switch_to|_*schedule(?:_\w+)?|preempt_sch\w+|io_schedule\w*|_*wait_(?:for|on)_\w+|bit_wait\w*|out_of_line_wait\w*"
    r"|do_wait_for_common|folio_wait_\w+|_*sched_show_task|rcu_\w+|nmi_\w+|trigger_\w+|arch_trigger_\w+|print_\w+"
    r"|(?:bug_)?brk_\w+|bug_handler|call_break_hook|do_debug_exception|do_(?:mem_abort|bad_area|page_fault)"
    r"|do_(?:translation|tag_check|alignment)_fault|do_tag_recovery|el1h?_\w+|el1|do_el1_\w+|panic_bad_stack|__bad_stack"
    r"|handle_bad_stack|watchdog_\w+|tick_\w+|update_process_times|__hrtimer_run\w*|hrtimer_int\w*|handle_percpu_\w+"
    r"|generic_handle_\w+|gic_handle\w*|handle_(?:domain|IPI|irq_desc)\w*|arch_timer_handler_\w+|call_on_irq_stack"
    r"|sysfs_(?:warn_dup|create_\w+|do_create_\w+)|kobject_(?:init|add|create)\w*|create_dir|do_interrupt_handler"
    r"|check_cpu_stall|resched_latency_warn|sched(?:uler)?_tick|check_hung\w+|_*stack_trace_\w+|save_stack\w*|stack_depot_\w+"
)
# Frames that every backtrace ends in.
_ROOTS = (
    r"kthread|ret_from_fork\w*|worker_thread|process_(?:one_work|scheduled_works)|rescuer_thread|smpboot_thread_fn"
    r"|invoke_syscall|el0_svc\w*|do_el0_svc|el0t?_\w+|secondary_start_kernel|__secondary_switched|_stext|_etext"
)
_NEVER = re.compile(rf"(?:{_REPORTERS})$|core::|alloc::|\w*rustc::rust_begin_unwind")  # Rust's own panic and unwrap
_OTHERS_WORK = re.compile(rf"(?:{_HELPERS})$")
_ALLOCATOR = re.compile(rf"(?:{_ALLOCATORS})$")
_NO_PLACE = re.compile(rf"(?:{_PLUMBING}|{_ROOTS})$")
_INTERRUPT = re.compile(r"el1h?_(?:64_)?(?:irq|fiq|interrupt)(?:_handler)?$")
_BASE62 = re.compile(r"[0-9A-Za-z]{0,20}_")
_IDENTIFIER = re.compile(r"(\d{1,3})_?")


def symbol(name: str) -> str:
    """Return a function's name without the parts that differ between builds of the same source: the compiler's
    suffixes; of a Rust function the path, ``my_driver::Queue::push``."""
    return _rust_path(name) if name.startswith("_R") else _SUFFIX.sub("", name)


def _rust_path(mangled: str) -> str:
    """The identifiers of a symbol in Rust's mangling (v0), without the hashes of its crates."""
    names, position = [], 2
    while position < len(mangled):
        if mangled[position] in "sB" and (skipped := _BASE62.match(mangled, position + 1)):  # disambiguator, backref
            position = skipped.end()
        elif length := _IDENTIFIER.match(mangled, position):
            position = length.end() + int(length[1])
            names.append(mangled[length.end() : position])
        else:
            position += 1
    return "::".join(filter(None, names)) or mangled


def is_interrupt_entry(name: str) -> bool:
    """Whether what was running when an interrupt came stands behind this function in a backtrace."""
    return _INTERRUPT.match(name) is not None


def is_place(name: str, *, skip_helpers: bool = True, skip_allocators: bool = False) -> bool:
    """Return whether a fault can be booked on the function of this name.

    Reporters never can; helpers can where they themselves can't be executed; allocators can but in reports about the
    memory that they were given."""
    if _NEVER.match(name) or (skip_helpers and _OTHERS_WORK.match(name)):
        return False
    return not (skip_allocators and _ALLOCATOR.match(name))


def is_frame_of_interest(name: str) -> bool:
    """Whether a frame of a backtrace is neither scheduling, stall detection or exception entry nor the backtrace's
    root."""
    return _NO_PLACE.match(name) is None
