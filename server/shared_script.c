/* The script of the shared store: server/shared.lua as it is, put into the program by the
 * assembler. */
#include "server/shared_script.h"

#include <stdio.h>
#include <string.h>

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

dscm_code dscm_shared_script_load(dscm_redis *redis, dscm_script_id *out, dscm_error *err)
{
    dscm_span args[] = {dscm_span_text("SCRIPT"), dscm_span_text("LOAD"), dscm_shared_script()};
    dscm_redis_reply *reply = dscm_redis_send(redis, args, 3) ? dscm_redis_receive(redis) : NULL;
    const char *failure = reply ? dscm_redis_failure(reply) : dscm_redis_error(redis);
    dscm_code code = DSCM_OK;
    if (failure)
        code = dscm_fail(err, DSCM_E_IO, "store: SCRIPT LOAD: %s", failure);
    else
        snprintf(out->text, sizeof out->text, "%s", (const char *)dscm_redis_bytes(reply).data);
    dscm_redis_reply_free(reply);
    return code;
}

bool dscm_shared_script_send(dscm_redis *redis, const dscm_script_id *id, const char *operation,
                             const dscm_span *args, size_t count)
{
    dscm_span all[DSCM_REDIS_ARGS_MAX] = {dscm_span_text("EVALSHA"), dscm_span_text(id->text),
                                          dscm_span_text("0"), dscm_span_text(operation)};
    if (count + 4 > DSCM_REDIS_ARGS_MAX) return false;
    memcpy(all + 4, args, count * sizeof *args);
    return dscm_redis_send(redis, all, count + 4);
}
