#include "cpu/stgcn_block/stgcn_block_backward.h"

#include "cpu/stgcn_block/stgcn_block.h"

namespace aimclr::cpu {
namespace stgcn {

template <typename T>
Index backward_bytes(const Plan& plan, int threads) {
    return backward_pass_bytes<Backward<T>>(plan, threads);
}

template Index backward_bytes<float>(const Plan&, int);
template Index backward_bytes<double>(const Plan&, int);

}  // namespace stgcn

template <typename T, typename M>
Status stgcn_block_backward(const M* grad_y, const StgcnBlock<T, M>& block,
                            const StgcnMaps<T, M>& saved, const StgcnGradients<T, M>& to,
                            int threads) {
    return stgcn::backward_pass<stgcn::Backward<T>>(grad_y, block, saved, to, threads);
}

template Status stgcn_block_backward(const float*, const StgcnBlock<float>&,
                                     const StgcnMaps<float>&, const StgcnGradients<float>&, int);
template Status stgcn_block_backward(const double*, const StgcnBlock<double>&,
                                     const StgcnMaps<double>&, const StgcnGradients<double>&, int);

}  // namespace aimclr::cpu
