#include <diffusion/diffusion.hpp>

const diffusion::Version* version_seen_by_second_file();

// An inline variable is one object, whichever file asks for it.
int main() { return version_seen_by_second_file() == &diffusion::version ? 0 : 1; }
