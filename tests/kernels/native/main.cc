// Runs every kernel on random shapes against plain sums in double precision. Meant to be built with the address and
// undefined-behaviour sanitizers: `make sanitize`.
#include "checks.h"

int main() {
  check_thin_rows();
  check_quantised_rows();
  check_packed_tiles();
  check_gated_rows();
  check_gate_values();
  check_attend_slots();
  check_attend_text();
  check_write_slots();
  check_recurrent_channels();
  check_narrow_tiles();
  check_widened_tiles();
  check_unit_product();
  std::puts("all kernels agree with their references");
}
