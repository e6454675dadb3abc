/* The whole handler: raw bytes over a loopback connection to the service on its fake engine. */
#include "tests/fuzz/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int status;
    fuzz_service_start(NULL, 0);
    fuzz_service_send(dscm_service_port(service), data, size, &status);
    return 0;
}
