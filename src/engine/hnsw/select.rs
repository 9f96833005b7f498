//! Choosing neighbours: the heuristic of algorithm 4 of Malkov and Yashunin (2018), keeping pruned ones to fill the list.
//!
//! A candidate is *diverse* if it is nearer to the node than to every diverse neighbour chosen before it. Diverse ones come
//! first; what room is left takes the nearest of the others.

/// Chooses up to `room` of `candidates`, which are their distances from the node, ascending: gives their indexes,
/// ascending, each with whether it is diverse. `between(a, b)` is the distance between two candidates.
pub fn select_neighbours(
    distances: &[f32],
    room: usize,
    mut between: impl FnMut(usize, usize) -> f32,
    chosen: &mut Vec<(usize, bool)>,
) {
    chosen.clear();
    if distances.len() <= 1 {
        chosen.extend((0..distances.len().min(room)).map(|index| (index, true)));
        return;
    }
    let mut diverse: Vec<usize> = Vec::with_capacity(room);
    let mut others: Vec<usize> = Vec::with_capacity(room);
    for (index, &distance) in distances.iter().enumerate() {
        if diverse.len() >= room {
            break;
        }
        if diverse.iter().all(|&nearer| between(index, nearer) >= distance) {
            diverse.push(index);
        } else if others.len() < room {
            others.push(index);
        }
    }
    others.truncate(room - diverse.len());
    chosen.extend(diverse.into_iter().map(|index| (index, true)));
    chosen.extend(others.into_iter().map(|index| (index, false)));
    chosen.sort_unstable();
}

/// What becomes of a full list when a neighbour is offered to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// The list stays as it is.
    Declined,
    /// The newcomer takes this place.
    Replaces(usize),
}

/// Decides on a newcomer to a full list in one pass of distances: a newcomer that is not diverse only replaces a farther
/// neighbour that is not diverse either; a diverse one replaces the farthest neighbour that it makes redundant, or that
/// another does, or the farthest.
///
/// `distances` are those of the list's nodes from their owner, in any order; `newcomer` that of the newcomer;
/// `between(i)` the distance of the newcomer from the list's i-th.
pub fn offer(distances: &[f32], newcomer: f32, mut between: impl FnMut(usize) -> f32) -> Offer {
    let mut farthest: Option<(f32, usize)> = None;
    let mut redundant: Option<(f32, usize)> = None;
    for (index, &distance) in distances.iter().enumerate() {
        let apart = between(index);
        if distance <= newcomer {
            if apart < newcomer {
                return Offer::Declined;
            }
            continue;
        }
        if farthest.is_none_or(|(most, _)| distance > most) {
            farthest = Some((distance, index));
        }
        if apart < distance && redundant.is_none_or(|(most, _)| distance > most) {
            redundant = Some((distance, index));
        }
    }
    match redundant.or(farthest) {
        Some((_, index)) => Offer::Replaces(index),
        None => Offer::Declined,
    }
}

#[cfg(test)]
mod tests {
    use super::{offer, select_neighbours, Offer};

    fn select(points: &[f32], room: usize) -> Vec<(usize, bool)> {
        // Candidates on a line, the node at 0.
        let distances: Vec<f32> = points.iter().map(|point| point.abs()).collect();
        let mut chosen = Vec::new();
        select_neighbours(&distances, room, |a, b| (points[a] - points[b]).abs(), &mut chosen);
        chosen
    }

    #[test]
    fn prefers_neighbours_in_different_directions() {
        assert_eq!(select(&[1.0, 2.0, -3.0, 4.0], 2), [(0, true), (2, true)]);
        assert_eq!(select(&[1.0, 2.0, -3.0, 4.0], 3), [(0, true), (1, false), (2, true)]);
        assert_eq!(select(&[], 3), []);
        assert_eq!(select(&[5.0], 0), []);
        assert_eq!(select(&[5.0, 6.0], 1), [(0, true)]);
    }

    #[test]
    fn a_full_list_takes_only_what_helps() {
        let list = [1.0f32, 2.0, -3.0];
        let decide = |newcomer: f32| {
            let distances: Vec<f32> = list.iter().map(|point| point.abs()).collect();
            offer(&distances, newcomer.abs(), |index| (list[index] - newcomer).abs())
        };
        assert_eq!(decide(2.5), Offer::Declined);
        assert_eq!(decide(-1.5), Offer::Replaces(2));
        assert_eq!(decide(0.5), Offer::Replaces(1));
        assert_eq!(decide(-4.0), Offer::Declined);
    }
}
