/* The script of the shared store: server/shared.lua as it is, put into the program by the
 * assembler. */
#include "server/shared_script.h"

__asm__(".section .rodata\n"
        ".global dscm_shared_script_begin\n"
        ".global dscm_shared_script_end\n"
        "dscm_shared_script_begin:\n"
        ".incbin \"server/shared.lua\"\n"
        "dscm_shared_script_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char dscm_shared_script_begin[], dscm_shared_script_end[];

dscm_span dscm_shared_script(void)
{
    return (dscm_span){dscm_shared_script_begin,
                       (size_t)(dscm_shared_script_end - dscm_shared_script_begin)};
}
