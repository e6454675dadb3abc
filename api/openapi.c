/* The OpenAPI 3.1 document: api/openapi.json as it is, put into the program by the assembler. The
 * tests check it against live replies. */
#include "api/reply.h"

/* Alignment does not matter for bytes; the label after the data gives the size. */
__asm__(".section .rodata\n"
        ".global dscm_openapi_begin\n"
        ".global dscm_openapi_end\n"
        "dscm_openapi_begin:\n"
        ".incbin \"api/openapi.json\"\n"
        "dscm_openapi_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char dscm_openapi_begin[], dscm_openapi_end[];

const char *dscm_openapi_text(size_t *size)
{
    *size = (size_t)(dscm_openapi_end - dscm_openapi_begin);
    return dscm_openapi_begin;
}
