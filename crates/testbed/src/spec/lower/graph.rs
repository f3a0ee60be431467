use std::collections::BTreeSet;

/// What must come before what, put in order.
pub(crate) struct Order {
    /// All nodes outside circles and not behind one, each after those it needs, and as early as its number allows.
    pub(crate) sorted: Vec<usize>,
    /// The circles: each node needs the next, and the last the first.
    pub(crate) cycles: Vec<Vec<usize>>,
}

/// Sorts nodes `0..needs.len()`, where `needs[n]` are the nodes that `n` needs (Kahn's algorithm).
pub(crate) fn sort(needs: &[Vec<usize>]) -> Order {
    let mut needed_by = vec![Vec::new(); needs.len()];
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (node, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|need| needed_by[*need].push(node));
    }
    let mut free: BTreeSet<usize> = (0..needs.len()).filter(|node| open[*node] == 0).collect();
    let mut sorted = Vec::with_capacity(needs.len());
    while let Some(node) = free.pop_first() {
        sorted.push(node);
        for next in &needed_by[node] {
            open[*next] -= 1;
            if open[*next] == 0 {
                free.insert(*next);
            }
        }
    }
    Order { sorted, cycles: cycles(needs, &open) }
}

/// Every node that is still open needs another such node, so that walking along needs ends in a circle.
fn cycles(needs: &[Vec<usize>], open: &[usize]) -> Vec<Vec<usize>> {
    let mut cycles = Vec::new();
    let mut walked_in = vec![None; needs.len()];
    for start in (0..needs.len()).filter(|node| open[*node] > 0) {
        let mut path = Vec::new();
        let mut node = start;
        while walked_in[node].is_none() {
            walked_in[node] = Some(start);
            path.push(node);
            match needs[node].iter().find(|need| open[**need] > 0) {
                Some(need) => node = *need,
                None => break,
            }
        }
        if walked_in[node] == Some(start)
            && let Some(at) = path.iter().position(|known| *known == node)
        {
            cycles.push(path.split_off(at));
        }
    }
    cycles
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn circles_are_found_once_and_what_hangs_on_them_is_left_out() {
        let order = sort(&[vec![1], vec![2], vec![1], vec![], vec![3], vec![5]]);
        assert_eq!(order.sorted, [3, 4]);
        assert_eq!(order.cycles, [vec![1, 2], vec![5]]);
    }

    proptest! {
        #[test]
        fn what_is_needed_comes_first_or_there_is_a_circle(needs in prop::collection::vec(prop::collection::vec(0usize..12, 0..4), 12)) {
            let order = sort(&needs);
            for (at, node) in order.sorted.iter().enumerate() {
                prop_assert!(needs[*node].iter().all(|need| order.sorted[..at].contains(need)));
            }
            prop_assert_eq!(order.cycles.is_empty(), order.sorted.len() == needs.len());
            for cycle in &order.cycles {
                for (at, node) in cycle.iter().enumerate() {
                    prop_assert!(needs[*node].contains(&cycle[(at + 1) % cycle.len()]));
                }
            }
        }
    }
}
