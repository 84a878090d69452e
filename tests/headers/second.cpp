#include <diffusion/diffusion.hpp>

const diffusion::Version* version_seen_by_second_file();

const diffusion::Version* version_seen_by_second_file() { return &diffusion::version; }
