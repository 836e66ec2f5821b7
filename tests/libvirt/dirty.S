/* A guest without an operating system: started by QEMU's multiboot loader in 32-bit mode, it writes to
 * every page from 2 MiB up to RAM_TOP for ever, so that its migration has something to copy.  With
 * -DIDLE it fills them once and sleeps. */
    .text
    .align 4
    .long 0x1BADB002, 0, -0x1BADB002

    .globl _start
_start:
    mov $1, %eax
again:
    mov $0x200000, %edi
next:
    mov %eax, (%edi)
    add $4096, %edi
    cmp $RAM_TOP, %edi
    jb next
#ifdef IDLE
    cli
    hlt
#endif
    inc %eax
    jmp again
    .section .note.GNU-stack, "", @progbits
