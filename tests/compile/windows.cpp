// Compiled for Windows, with all our headers after <windows.h>, whose macros reach everywhere.
//
// MinGW's <windows.h> leaves `min` and `max` out of C++, and not every version defines the others,
// so they are defined here as Microsoft's does. The standard library and Eigen come before: they
// do not stand a macro `max` themselves (libstdc++ undefines it), ours must.
#include <windows.h>

#include "outside_headers.hpp"  // generated: what our headers include that is not ours

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#undef near
#define near
#undef far
#define far
#undef small
#define small char
#undef interface
#define interface struct

#include "all_headers.hpp"  // generated
